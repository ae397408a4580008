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
from hopmq.errors import (
    AccessRefused,
    AuthenticationError,
    ChannelClosed,
    ClosedError,
    ConfigError,
    ConnectionClosed,
    ConsumerCancelled,
    Error,
    LinkError,
    Nacked,
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

__version__ = VERSION

__all__ = [
    "AccessRefused",
    "AuthenticationError",
    "Batch",
    "Batches",
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
    "Error",
    "Event",
    "Events",
    "Exchange",
    "ExchangeSettings",
    "LinkError",
    "Message",
    "Nacked",
    "NotFound",
    "Opening",
    "Operation",
    "OutcomeUnknown",
    "PreconditionFailed",
    "Properties",
    "Props",
    "ProtocolError",
    "PublishManyError",
    "PublishProps",
    "Publisher",
    "Queue",
    "QueueSettings",
    "Recovering",
    "Recovery",
    "ResourceLocked",
    "Returned",
    "Returns",
    "Settings",
    "Stats",
    "Timeout",
    "Tls",
    "UsageError",
    "__version__",
    "connect",
]
