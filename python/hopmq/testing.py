"""A broker for tests, in the process of the test: it behaves as RabbitMQ, and its time can be moved.

```python
broker = hopmq.testing.Broker(manual=True)
with hopmq.blocking.connect(broker.uri) as connection, connection.channel() as channel:
    channel.queue("orders", message_ttl="10m").publish(b"a pizza")
    broker.advance("10m")
    assert broker.ready("orders") == []
```
"""

from __future__ import annotations

from hopmq._hopmq import Broker

__all__ = ["Broker"]
