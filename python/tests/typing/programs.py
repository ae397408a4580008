"""Typical programs. They are not run: the type checkers must accept them, and find these types."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_type

import hopmq
import hopmq.blocking
from hopmq._hopmq import Batch, Broker


async def connecting() -> None:
    """Settings are keyword arguments with types."""
    connection = await hopmq.connect()
    assert_type(connection, hopmq.Connection)
    await connection.close()
    tls = hopmq.Tls(roots="ca.pem", server_name="broker")
    recovery = hopmq.Recovery(longest_delay="10s", publishing="fail", total_time=timedelta(minutes=5))
    settings: hopmq.Settings = {"name": "shop", "heartbeat": 10, "tls": tls, "recovery": recovery}
    async with hopmq.connect("amqps://localhost", **settings) as c, c.channel() as channel:
        assert_type(c, hopmq.Connection)
        assert_type(channel, hopmq.Channel)
        assert_type(channel.connection, hopmq.Connection)
        assert_type(c.heartbeat, timedelta)
        assert_type(c.stats().published, int)
        assert_type(await c.closed(), hopmq.Error)
        async for event in c.events():
            assert_type(event, hopmq.Event)
            assert_type(event.error, hopmq.Error | None)


async def credentials() -> None:
    """Credentials are a pair, a function, or an async function; a third part says when they expire."""

    def asked() -> tuple[str, str]:
        return "user", "password"

    async def awaited() -> tuple[str, str, timedelta]:
        return "user", "token", timedelta(hours=1)

    await hopmq.connect(credentials=("guest", "guest"))
    await hopmq.connect(credentials=asked)
    await hopmq.connect(credentials=awaited, recovery=False)


async def topology(channel: hopmq.Channel) -> None:
    """Queues and exchanges have settings with types."""
    queue = await channel.queue("orders", durable=True, quorum=True, delivery_limit=5, message_ttl="10m")
    assert_type(queue, hopmq.Queue)
    exchange = await channel.exchange("shop", "topic", durable=True, alternate_exchange="lost")
    assert_type(exchange, hopmq.Exchange)
    await queue.bind("shop", "order.*", {"x-match": "all"})
    assert_type(await queue.purge(), int)
    assert_type(await channel.queue_delete("orders", if_empty=True), int)
    assert_type(await channel.flow(active=True), bool)


async def publishing(channel: hopmq.Channel, queue: hopmq.Queue) -> None:
    """Each form of publish has the same properties; the result of two is nothing, of one a confirm."""
    assert_type(channel.send("metrics", "cpu", b"0.7"), hopmq.Operation[None])
    await queue.publish({"id": 1}, persistent=True, headers={"x-try": 1}, expiration=timedelta(seconds=1))
    confirm = await queue.publish_later("text", mandatory=True, timestamp=datetime.now().astimezone())
    assert_type(confirm, hopmq.Confirm)
    assert_type(await confirm, None)
    prepared = hopmq.Properties(content_type="text/plain", priority=3)
    assert_type(prepared.priority, int | None)
    async with channel.publisher("shop", window=1000, properties=prepared, persistent=True) as publisher:
        assert_type(publisher, hopmq.Publisher)
        assert_type(publisher.publish("order.new", b"body", message_id="1"), hopmq.Operation[None])
        assert_type(publisher.publish(b"body"), hopmq.Operation[None])
        assert_type(await publisher.publish_many_later([b"1", b"2"]), hopmq.Confirms)
        assert_type(await publisher.send_many(str(number) for number in range(10)), int)


async def consuming(channel: hopmq.Channel, queue: hopmq.Queue) -> None:
    """Messages come one by one or in batches."""
    async with queue.consume(prefetch=500, priority=1) as messages:
        assert_type(messages, hopmq.Consumer)
        async for message in messages:
            assert_type(message, hopmq.Message)
            assert_type(message.body, bytes)
            assert_type(message.headers, dict[str, Any])
            assert_type(message.ack(), bool)
            assert_type(message.expiration, timedelta | None)
    async with channel.consume("orders", no_ack=True) as messages:
        async for batch in messages.batches(256, wait=0.05):
            assert_type(batch, Batch)
            assert_type(len(batch), int)
            assert_type([m.text() for m in batch], list[str])
            assert_type(batch.ack(), bool)
    got = await queue.get()
    assert_type(got, hopmq.Message | None)
    async for returned in channel.returns():
        assert_type(returned.return_code, int | None)


def errors() -> None:
    """Errors are a tree, and also the exceptions of Python that they are like."""
    try:
        hopmq.connect().wait("5s")
    except TimeoutError:
        pass
    except hopmq.Returned as error:
        assert_type(error.message, hopmq.Message)
    except hopmq.Error as error:
        assert_type(error.kind, str)
        assert_type(error.code, int | None)


def operations(channel: hopmq.Channel) -> hopmq.Operation[int]:
    """An operation can be awaited, or waited for on a thread; its result has a type."""
    operation = channel.queue_purge("orders")
    assert_type(operation, hopmq.Operation[int])
    assert_type(operation.wait(timeout=timedelta(seconds=1)), int)
    assert_type(operation.is_ready, bool)
    assert_type(channel.connection.channel().wait(), hopmq.Channel)
    return operation


def blocking() -> None:
    """The same objects, without await."""
    with hopmq.blocking.connect("amqp://localhost", name="shop") as connection, connection.channel() as channel:
        assert_type(channel, hopmq.blocking.Channel)
        queue = channel.queue("orders", durable=True)
        assert_type(queue, hopmq.blocking.Queue)
        queue.publish(b"body", persistent=True)
        with queue.consume(prefetch=10) as messages:
            for message in messages:
                assert_type(message, hopmq.Message)


def testing() -> None:
    """The embedded broker tells what it holds."""
    broker = Broker(manual=True)
    broker.advance("10m")
    assert_type(broker.ready("orders"), list[hopmq.Message])
    assert_type(broker.queues(), dict[str, tuple[int, int]])
