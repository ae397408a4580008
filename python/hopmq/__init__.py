"""An AMQP 0-9-1 client for RabbitMQ and compatible brokers: asyncio, trio and plain threads.

```python
import asyncio
import hopmq

async def main() -> None:
    async with hopmq.connect("amqp://localhost") as connection, connection.channel() as channel:
        orders = await channel.queue("orders", durable=True)
        await orders.publish("a pizza", persistent=True)
        async with orders.consume() as messages:
            async for message in messages:
                print("cooking", message.text())
                message.ack()
                break

asyncio.run(main())
```
"""

from __future__ import annotations

from hopmq import rpc
from hopmq._connect import Recovery, Tls, connect
from hopmq._hopmq import (
    VERSION,
    Batch,
    Batches,
    Channel,
    Confirm,
    Confirms,
    Connection,
    Consumer,
    Events,
    Exchange,
    Incoming,
    IncomingBatch,
    Message,
    Operation,
    Properties,
    Publisher,
    Queue,
    Returns,
    Stats,
)
from hopmq._opening import Opening
from hopmq._types import ConsumeSettings, ExchangeSettings, Props, PublishProps, QueueSettings, Settings
from hopmq.app import App, Router
from hopmq.depends import Attempt, Depends, Header, Publish, State
from hopmq.errors import (
    AccessRefused,
    AppError,
    AuthenticationError,
    CallError,
    CallFailed,
    ChannelClosed,
    ClosedError,
    ConfigError,
    ConnectionClosed,
    ConsumerCancelled,
    DecodeError,
    Error,
    Fault,
    LinkError,
    Nacked,
    NoServer,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    PublishManyError,
    Recovering,
    ResourceLocked,
    Returned,
    Timeout,
    UsageError,
)
from hopmq.events import Event
from hopmq.outcomes import Outcome, Park, Reject, Release, TryAgain
from hopmq.retry import BatchLimits, Breaker, Rate, Retry

__version__ = VERSION

__all__ = [
    "AccessRefused",
    "App",
    "AppError",
    "Attempt",
    "AuthenticationError",
    "Batch",
    "BatchLimits",
    "Batches",
    "Breaker",
    "CallError",
    "CallFailed",
    "Channel",
    "ChannelClosed",
    "ClosedError",
    "ConfigError",
    "Confirm",
    "Confirms",
    "Connection",
    "ConnectionClosed",
    "ConsumeSettings",
    "Consumer",
    "ConsumerCancelled",
    "DecodeError",
    "Depends",
    "Error",
    "Event",
    "Events",
    "Exchange",
    "ExchangeSettings",
    "Fault",
    "Header",
    "Incoming",
    "IncomingBatch",
    "LinkError",
    "Message",
    "Nacked",
    "NoServer",
    "NotFound",
    "Opening",
    "Operation",
    "Outcome",
    "OutcomeUnknown",
    "Park",
    "PreconditionFailed",
    "Properties",
    "Props",
    "ProtocolError",
    "Publish",
    "PublishManyError",
    "PublishProps",
    "Publisher",
    "Queue",
    "QueueSettings",
    "Rate",
    "Recovering",
    "Recovery",
    "Reject",
    "Release",
    "ResourceLocked",
    "Retry",
    "Returned",
    "Returns",
    "Router",
    "Settings",
    "State",
    "Stats",
    "Timeout",
    "Tls",
    "TryAgain",
    "UsageError",
    "__version__",
    "connect",
    "rpc",
]
