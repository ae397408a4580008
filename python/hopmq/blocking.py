"""The same client for programs without an event loop: calls that wait on their own thread.

```python
import hopmq.blocking

with hopmq.blocking.connect("amqp://localhost") as connection, connection.channel() as channel:
    orders = channel.queue("orders", durable=True)
    orders.publish("a pizza", persistent=True)
    with orders.consume() as messages:
        for message in messages:
            print("cooking", message.text())
            message.ack()
            break
```

Names and arguments are those of the async classes. Handles may be used from any thread; the GIL is released while a
call waits, and ctrl-c ends the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

import hopmq
from hopmq._connect import DEFAULT_URI

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta
    from types import TracebackType

    from hopmq import _hopmq  # noqa: F401 - the names in quotes below
    from hopmq._hopmq import Batch, Confirm, Confirms, Message, Stats
    from hopmq._types import (
        ConsumeSettings,
        ExchangeSettings,
        PublishProps,
        QueueSettings,
        Seconds,
        Settings,
    )
    from hopmq.events import Event

__all__ = [
    "Batches",
    "Channel",
    "Connection",
    "Consumer",
    "Events",
    "Exchange",
    "Publisher",
    "Queue",
    "Returns",
    "connect",
]

T = TypeVar("T")


def connect(uri: str = DEFAULT_URI, **settings: Unpack[Settings]) -> Connection:
    """Connect to a broker, with the settings of `hopmq.connect`."""
    return Connection(hopmq.connect(uri, **settings).wait())


class _Handle(Generic[T]):
    """A handle of the native module whose operations are waited for."""

    __slots__ = ("_raw",)

    def __init__(self, raw: T) -> None:
        self._raw = raw

    def __repr__(self) -> str:
        """Return what the async handle shows."""
        return repr(self._raw)


class Connection(_Handle["_hopmq.Connection"]):
    """A connection to a broker."""

    __slots__ = ()

    def channel(self) -> Channel:
        """Open a channel."""
        return Channel(self._raw.channel().wait())

    def within(self, timeout: Seconds) -> Connection:
        """Return the same connection with another timeout for all waits, also of the channels that it opens."""
        return Connection(self._raw.within(timeout))

    def update_secret(self, secret: str, reason: str = "") -> None:
        """Give the broker a new secret, such as a token, before the old one expires."""
        self._raw.update_secret(secret, reason).wait()

    def close(self) -> None:
        """Close the connection after everything is sent and confirmed."""
        self._raw.close().wait()

    def shutdown(self, deadline: Seconds | None = None) -> None:
        """Stop all consumers, wait until all is settled and confirmed, and close; at the latest after `deadline`."""
        self._raw.shutdown(deadline).wait()

    def closed(self, timeout: Seconds | None = None) -> hopmq.Error:
        """Wait until the connection has ended, and return why."""
        return self._raw.closed().wait(timeout)

    def events(self) -> Events:
        """Return the events from now on."""
        return Events(self._raw.events())

    def stats(self) -> Stats:
        """Return the counters of the connection so far."""
        return self._raw.stats()

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used, also while it reconnects."""
        return self._raw.is_open

    @property
    def is_connected(self) -> bool:
        """Whether there is a link to the broker at the moment."""
        return self._raw.is_connected

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker says about itself."""
        return self._raw.server_properties

    @property
    def channel_max(self) -> int:
        """The negotiated highest channel number."""
        return self._raw.channel_max

    @property
    def frame_max(self) -> int:
        """The negotiated largest frame, in bytes."""
        return self._raw.frame_max

    @property
    def heartbeat(self) -> timedelta:
        """The negotiated heartbeat interval."""
        return self._raw.heartbeat

    def __enter__(self) -> Self:
        """Use the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection, if it is open."""
        self._raw.__aexit__(kind, error, traceback).wait()


class Channel(_Handle["_hopmq.Channel"]):
    """A channel: the place of all operations on queues, exchanges and messages."""

    __slots__ = ()

    @property
    def id(self) -> int:
        """The number of the channel."""
        return self._raw.id

    @property
    def is_open(self) -> bool:
        """Whether the channel can be used."""
        return self._raw.is_open

    @property
    def connection(self) -> Connection:
        """The connection of the channel."""
        return Connection(self._raw.connection)

    def within(self, timeout: Seconds) -> Channel:
        """Return the same channel with another timeout for all waits."""
        return Channel(self._raw.within(timeout))

    def reopen(self) -> Channel:
        """Open a channel in place of one that the broker has closed."""
        return Channel(self._raw.reopen().wait())

    def send(self, exchange: str, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish without a confirm: returns when the message is in the output buffer."""
        self._raw.send(exchange, routing_key, body, **properties).wait()

    def publish(self, exchange: str, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish, and wait until the broker has the message."""
        self._raw.publish(exchange, routing_key, body, **properties).wait()

    def publish_later(
        self, exchange: str, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]
    ) -> Confirm:
        """Publish, and return the confirm: `confirm.wait()` waits for the broker's answer."""
        return self._raw.publish_later(exchange, routing_key, body, **properties).wait()

    def publisher(
        self,
        exchange: str = "",
        routing_key: str | None = None,
        *,
        window: int = 1000,
        **properties: Unpack[PublishProps],
    ) -> Publisher:
        """Return a publisher to one exchange. Without `routing_key`, each publish is given its own."""
        return Publisher(self._raw.publisher(exchange, routing_key, window=window, **properties))

    def returns(self) -> Returns:
        """Return the messages that the broker gives back because no queue took them."""
        return Returns(self._raw.returns())

    def queue(self, name: str = "", **settings: Unpack[QueueSettings]) -> Queue:
        """Declare a queue. `queue("")` lets the broker choose a name."""
        return Queue(self._raw.queue(name, **settings).wait())

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        """Bind a queue to an exchange."""
        self._raw.queue_bind(queue, exchange, routing_key, arguments).wait()

    def queue_unbind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        """Remove a binding of a queue."""
        self._raw.queue_unbind(queue, exchange, routing_key, arguments).wait()

    def queue_purge(self, queue: str) -> int:
        """Drop all ready messages of a queue. Return their number."""
        return self._raw.queue_purge(queue).wait()

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue. Return how many messages it had."""
        return self._raw.queue_delete(queue, if_unused=if_unused, if_empty=if_empty).wait()

    def exchange(self, name: str, kind: str = "direct", **settings: Unpack[ExchangeSettings]) -> Exchange:
        """Declare an exchange."""
        return Exchange(self._raw.exchange(name, kind, **settings).wait())

    def exchange_bind(
        self, destination: str, source: str, routing_key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        """Bind an exchange to another one, from which messages come."""
        self._raw.exchange_bind(destination, source, routing_key, arguments).wait()

    def exchange_unbind(
        self, destination: str, source: str, routing_key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        """Remove a binding of an exchange."""
        self._raw.exchange_unbind(destination, source, routing_key, arguments).wait()

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        """Delete an exchange."""
        self._raw.exchange_delete(exchange, if_unused=if_unused).wait()

    def consume(self, queue: str, **settings: Unpack[ConsumeSettings]) -> Consumer:
        """Consume a queue."""
        return Consumer(self._raw.consume(queue, **settings).wait())

    def cancel(self, tag: str) -> None:
        """Cancel a consumer."""
        self._raw.cancel(tag).wait()

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        """Fetch one message of a queue, or `None` if it has none."""
        return self._raw.get(queue, no_ack=no_ack).wait()

    def prefetch(self, count: int, *, shared: bool = False) -> None:
        """Set how many unsettled messages each later consumer holds at most; with `shared`, all together."""
        self._raw.prefetch(count, shared=shared).wait()

    def recover(self) -> None:
        """Give all unsettled messages of the channel back to their queues."""
        self._raw.recover().wait()

    def tx_select(self) -> None:
        """Make the channel transactional."""
        self._raw.tx_select().wait()

    def tx_commit(self) -> None:
        """Carry out what was published and settled since the last commit."""
        self._raw.tx_commit().wait()

    def tx_rollback(self) -> None:
        """Drop what was published and settled since the last commit."""
        self._raw.tx_rollback().wait()

    def flow(self, active: bool) -> bool:  # noqa: FBT001 - the argument of channel.flow
        """Ask the broker to pause or resume deliveries. Return what it does."""
        return self._raw.flow(active).wait()

    def close(self) -> None:
        """Close the channel."""
        self._raw.close().wait()

    def __enter__(self) -> Self:
        """Use the channel."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the channel, if it is open."""
        self._raw.__aexit__(kind, error, traceback).wait()


class Queue(_Handle["_hopmq.Queue"]):
    """A queue that was declared."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._raw.name

    @property
    def message_count(self) -> int:
        """How many ready messages it had when it was declared."""
        return self._raw.message_count

    @property
    def consumer_count(self) -> int:
        """How many consumers it had when it was declared."""
        return self._raw.consumer_count

    def send(self, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish to the queue without a confirm."""
        self._raw.send(body, **properties).wait()

    def publish(self, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish to the queue, and wait until the broker has the message."""
        self._raw.publish(body, **properties).wait()

    def publish_later(self, body: Any, /, **properties: Unpack[PublishProps]) -> Confirm:
        """Publish to the queue, and return the confirm."""
        return self._raw.publish_later(body, **properties).wait()

    def publisher(self, *, window: int = 1000, **properties: Unpack[PublishProps]) -> Publisher:
        """Return a publisher to this queue."""
        return Publisher(self._raw.publisher(window=window, **properties))

    def bind(self, exchange: str, routing_key: str = "", arguments: dict[str, Any] | None = None) -> None:
        """Bind the queue to an exchange."""
        self._raw.bind(exchange, routing_key, arguments).wait()

    def unbind(self, exchange: str, routing_key: str = "", arguments: dict[str, Any] | None = None) -> None:
        """Remove a binding."""
        self._raw.unbind(exchange, routing_key, arguments).wait()

    def consume(self, **settings: Unpack[ConsumeSettings]) -> Consumer:
        """Consume the queue."""
        return Consumer(self._raw.consume(**settings).wait())

    def get(self, *, no_ack: bool = False) -> Message | None:
        """Fetch one message, or `None` if there is none."""
        return self._raw.get(no_ack=no_ack).wait()

    def purge(self) -> int:
        """Drop all ready messages. Return their number."""
        return self._raw.purge().wait()

    def delete(self, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete the queue. Return how many messages it had."""
        return self._raw.delete(if_unused=if_unused, if_empty=if_empty).wait()


class Exchange(_Handle["_hopmq.Exchange"]):
    """An exchange that was declared."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the exchange."""
        return self._raw.name

    def send(self, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish without a confirm."""
        self._raw.send(routing_key, body, **properties).wait()

    def publish(self, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]) -> None:
        """Publish, and wait until the broker has the message."""
        self._raw.publish(routing_key, body, **properties).wait()

    def publish_later(self, routing_key: str, body: Any, /, **properties: Unpack[PublishProps]) -> Confirm:
        """Publish, and return the confirm."""
        return self._raw.publish_later(routing_key, body, **properties).wait()

    def publisher(
        self, routing_key: str | None = None, *, window: int = 1000, **properties: Unpack[PublishProps]
    ) -> Publisher:
        """Return a publisher to this exchange."""
        return Publisher(self._raw.publisher(routing_key, window=window, **properties))

    def bind_to(self, source: str, routing_key: str = "", arguments: dict[str, Any] | None = None) -> None:
        """Bind the exchange to another one, from which messages come."""
        self._raw.bind_to(source, routing_key, arguments).wait()

    def delete(self, *, if_unused: bool = False) -> None:
        """Delete the exchange."""
        self._raw.delete(if_unused=if_unused).wait()


class Publisher(_Handle["_hopmq.Publisher"]):
    """Publishes to one exchange, with up to `window` messages that the broker has not confirmed yet."""

    __slots__ = ()

    def publish(self, *route_and_body: Any, **properties: Unpack[PublishProps]) -> None:
        """Publish `([routing_key,] body)`, and wait while `window` messages are under way."""
        self._raw.publish(*route_and_body, **properties).wait()

    def publish_now(self, *route_and_body: Any, **properties: Unpack[PublishProps]) -> None:
        """Publish `([routing_key,] body)`, and wait until the broker has the message."""
        self._raw.publish_now(*route_and_body, **properties).wait()

    def send(self, *route_and_body: Any, **properties: Unpack[PublishProps]) -> None:
        """Publish `([routing_key,] body)` without a confirm."""
        self._raw.send(*route_and_body, **properties).wait()

    def publish_many(self, bodies: Iterable[Any]) -> None:
        """Publish many bodies to the publisher's routing key, and wait until the broker has confirmed all."""
        self._raw.publish_many(bodies).wait()

    def publish_many_later(self, bodies: Iterable[Any]) -> Confirms:
        """Publish many bodies to the publisher's routing key, and return one confirm of all."""
        return self._raw.publish_many_later(bodies).wait()

    def send_many(self, bodies: Iterable[Any]) -> int:
        """Publish many bodies to the publisher's routing key, without confirms. Return their number."""
        return self._raw.send_many(bodies).wait()

    def flush(self) -> None:
        """Wait until nothing is under way. Raise an `ExceptionGroup` of what failed since the last time."""
        self._raw.flush().wait()

    @property
    def in_flight(self) -> int:
        """How many messages are under way."""
        return self._raw.in_flight

    @property
    def published(self) -> int:
        """How many messages were published."""
        return self._raw.published

    @property
    def window(self) -> int:
        """How many messages may be under way."""
        return self._raw.window

    def __enter__(self) -> Self:
        """Use the publisher."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until nothing is under way, and raise what failed."""
        self._raw.__aexit__(kind, error, traceback).wait()


class Consumer(_Handle["_hopmq.Consumer"]):
    """A consumer: an iterator of messages."""

    __slots__ = ()

    @property
    def tag(self) -> str:
        """The tag of the consumer."""
        return self._raw.tag

    def __iter__(self) -> Iterator[Message]:
        """Return the messages as they arrive, until the consumer ends."""
        return self._raw.iterate()

    def next(self, timeout: Seconds | None = None) -> Message | None:
        """Wait for the next message; `None` when the consumer has ended, `TimeoutError` after `timeout`."""
        return self._raw.next_blocking(timeout)

    def batches(
        self, max_count: int | None = None, *, wait: Seconds | None = None, max_size: int | None = None
    ) -> Batches:
        """Hand out batches of up to `max_count` messages, and wait up to `wait` for one to fill."""
        return Batches(self._raw.batches(max_count, wait=wait, max_size=max_size))

    def cancel(self) -> None:
        """Cancel the consumer: messages that have arrived are still handed out, then it ends."""
        self._raw.cancel().wait()

    def close(self) -> None:
        """Cancel the consumer, and give messages that were not handed out back to the queue."""
        self._raw.close().wait()

    def __enter__(self) -> Self:
        """Use the consumer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the consumer."""
        self._raw.__aexit__(kind, error, traceback).wait()


class Batches(_Handle["_hopmq.Batches"]):
    """The batches of a consumer: an iterator."""

    __slots__ = ()

    def __iter__(self) -> Self:
        """Return the batches as they arrive."""
        return self

    def __next__(self) -> Batch:
        """Wait for the next batch."""
        batch = self._raw.next_blocking()
        if batch is None:
            raise StopIteration
        return batch

    def next(self, timeout: Seconds | None = None) -> Batch | None:
        """Wait for the next batch; `None` when the consumer has ended, `TimeoutError` after `timeout`."""
        return self._raw.next_blocking(timeout)


class Returns(_Handle["_hopmq.Returns"]):
    """The messages that the broker gave back: an iterator that ends with the channel."""

    __slots__ = ()

    def __iter__(self) -> Self:
        """Return the messages as they come back."""
        return self

    def __next__(self) -> Message:
        """Wait for the next message."""
        message = self._raw.next_blocking()
        if message is None:
            raise StopIteration
        return message

    def next(self, timeout: Seconds | None = None) -> Message | None:
        """Wait for the next message; `None` when the channel has ended, `TimeoutError` after `timeout`."""
        return self._raw.next_blocking(timeout)


class Events(_Handle["_hopmq.Events"]):
    """The events of a connection: an iterator that ends with it."""

    __slots__ = ()

    def __iter__(self) -> Self:
        """Return the events as they happen."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event."""
        event = self._raw.next_blocking()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: Seconds | None = None) -> Event | None:
        """Wait for the next event; `None` when the connection has ended, `TimeoutError` after `timeout`."""
        return self._raw.next_blocking(timeout)
