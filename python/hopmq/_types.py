"""The keyword arguments of the package, as types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union

if TYPE_CHECKING:
    from hopmq._connect import Recovery, Tls
    from hopmq._hopmq import Properties

Seconds: TypeAlias = float | timedelta | str
"""A time: seconds, a `timedelta`, or a text such as "200ms", "1.5s", "10m", "2h", "1d"."""

Value: TypeAlias = Union[
    bool, int, float, Decimal, str, bytes, bytearray, datetime, "Sequence[Value]", "Mapping[str, Value]", None
]
"""A value of a header or an argument."""

Table: TypeAlias = Mapping[str, Any]
"""Headers or arguments: names with values (`Value`)."""

Credentials: TypeAlias = tuple[str, str] | tuple[str, str, Seconds | None]
"""A user name and a password, with how long they are valid as a third part, if they expire."""


class Props(TypedDict, total=False):
    """The properties of a message."""

    content_type: str | None
    """The MIME type of the body."""
    content_encoding: str | None
    """The encoding of the body, such as "gzip"."""
    headers: Table | None
    """Names with values."""
    persistent: bool | None
    """Whether the broker writes it to disk, if its queue is durable."""
    delivery_mode: int | None
    """1 is transient, 2 persistent: what `persistent` sets."""
    priority: int | None
    """0 to 255; a priority queue caps it at its maximum."""
    correlation_id: str | None
    """What ties a reply to its request."""
    reply_to: str | None
    """The queue for replies."""
    expiration: Seconds | None
    """How long it may stay in a queue; rounded up to milliseconds."""
    message_id: str | None
    """The application's id."""
    timestamp: datetime | int | None
    """The time of its creation, in whole seconds."""
    type: str | None
    """The application's type."""
    user_id: str | None
    """The publishing user. The broker refuses any other than the logged-in one."""
    app_id: str | None
    """The id of the publishing application."""


class PublishProps(Props, total=False):
    """What a publish takes besides its route and body."""

    properties: Properties | None
    """Prepared properties; must be the first keyword argument if there are others."""
    mandatory: bool
    """Whether the broker returns the message if no queue takes it."""


class QueueSettings(TypedDict, total=False):
    """How a queue is declared."""

    passive: bool
    """Only check that it exists."""
    durable: bool
    """It survives a restart of the broker."""
    exclusive: bool
    """Only this connection may use it, and it ends with it."""
    auto_delete: bool
    """It is deleted when its last consumer ends."""
    classic: bool
    quorum: bool
    stream: bool
    message_ttl: Seconds | None
    """How long messages stay in it."""
    expires: Seconds | None
    """After which time without use it is deleted."""
    max_length: int | None
    """The most messages."""
    max_length_bytes: int | None
    """The most bytes of bodies."""
    overflow: Literal["drop-head", "reject-publish", "reject-publish-dlx"] | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    dead_letter_strategy: Literal["at-most-once", "at-least-once"] | None
    delivery_limit: int | None
    """How often a quorum queue delivers a message."""
    max_priority: int | None
    """The highest priority, 1 to 255."""
    single_active_consumer: bool
    lazy: bool
    max_age: str | None
    """How long a stream keeps messages, such as "7D"."""
    max_segment_size: int | None
    """The size of a stream's segments, in bytes."""
    initial_group_size: int | None
    leader_locator: Literal["client-local", "balanced"] | None
    arguments: Table | None
    """Other arguments, by their names in AMQP."""


class ExchangeSettings(TypedDict, total=False):
    """How an exchange is declared."""

    passive: bool
    durable: bool
    auto_delete: bool
    internal: bool
    alternate_exchange: str | None
    """Where messages go that no binding takes."""
    arguments: Table | None


class ConsumeSettings(TypedDict, total=False):
    """How a queue is consumed."""

    prefetch: int | None
    """How many unsettled messages it holds at most; 256 by default, 0 is no limit."""
    tag: str | None
    no_ack: bool
    """Messages count as acked when they are sent."""
    exclusive: bool
    no_local: bool
    priority: int | None
    arguments: Table | None


class Settings(TypedDict, total=False):
    """The settings of a connection."""

    vhost: str
    """The virtual host, in place of the address's."""
    name: str
    """The name that operators see."""
    credentials: Credentials | Callable[[], Credentials | Awaitable[Credentials]]
    """User name and password, or a function that is asked for them before each connection, on a thread of its own."""
    mechanism: Literal["PLAIN", "AMQPLAIN", "EXTERNAL", "ANONYMOUS"]
    client_properties: Table
    hosts: Sequence[str]
    """More hosts, each `host` or `host:port`, tried in turn."""
    heartbeat: Seconds
    """The interval to ask for; 60 s by default."""
    connect_timeout: Seconds
    """For each host; 10 s by default."""
    request_timeout: Seconds
    """For replies and for room to publish; 30 s by default."""
    confirm_timeout: Seconds
    """For confirms; 60 s by default."""
    close_timeout: Seconds
    """For outstanding confirms when closing; 10 s by default."""
    write_timeout: Seconds
    """For a full socket to take bytes; 60 s by default."""
    tcp_user_timeout: Seconds
    """For the peer's TCP to acknowledge bytes (Linux)."""
    wait_for_broker: Seconds
    """How long to try until the broker is there for the first time."""
    spin: Seconds
    """How long a wait tries the socket before it sleeps."""
    frame_max: int
    initial_frame_max: int
    channel_max: int
    high_water_mark: int
    """With more bytes of output than this, publishes wait; 1 MiB by default."""
    receive_limit: int
    """With more bytes of untaken messages than this, nothing is read; 8 MiB by default."""
    max_message_size: int
    recovery: Recovery | bool
    """What happens when the link is lost; `False` ends the connection."""
    tls: Tls
    websocket_protocols: Sequence[str]
