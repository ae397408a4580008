"""A session of py-amqp."""

import sys
import time
import uuid
from urllib.parse import urlparse

import amqp

url = urlparse(sys.argv[1])
own = uuid.uuid4().hex


def step(name):
    print(f"py-amqp: {name}", flush=True)


def refused(refusal, action):
    try:
        action()
    except refusal:
        return
    raise AssertionError(f"{refusal} was expected, but nothing was raised")


def connect(password=url.password, confirm_publish=False, heartbeat=60):
    opened = amqp.Connection(
        f"{url.hostname}:{url.port}",
        userid=url.username,
        password=password,
        heartbeat=heartbeat,
        confirm_publish=confirm_publish,
        connect_timeout=20,
        read_timeout=20,
    )
    opened.connect()
    return opened


connection = connect(confirm_publish=True, heartbeat=2)
channel = connection.channel()
channel.exchange_declare(f"x-{own}", "direct", auto_delete=True)
queue = channel.queue_declare("", exclusive=True, auto_delete=False).queue
channel.queue_bind(queue, f"x-{own}", "key")
step("declare and bind")

returned = []
channel.events["basic_return"].add(lambda error, *rest: returned.append((error.reply_code, rest[-1].body)))
headers = {"n": 1, "s": "text", "big": 1 << 40, "list": [1, "two"]}
channel.basic_publish_confirm(amqp.Message("hello", application_headers=headers, delivery_mode=2), f"x-{own}", "key")
channel.basic_publish_confirm(amqp.Message("back"), f"x-{own}", "elsewhere", mandatory=True)
assert returned == [(312, "back")], returned
step("publish, confirm, return")

deliveries = []
tag = channel.basic_consume(queue, callback=deliveries.append)
connection.drain_events(timeout=20)
assert deliveries[0].body == "hello" and deliveries[0].headers == headers, deliveries[0].headers
channel.basic_reject(deliveries[0].delivery_tag, requeue=True)
connection.drain_events(timeout=20)
assert deliveries[1].delivery_info["redelivered"]
channel.basic_ack(deliveries[1].delivery_tag)
channel.basic_cancel(tag)
assert channel.basic_get(queue) is None
step("consume, reject, ack, get")

arguments = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
mortal = channel.queue_declare("", exclusive=True, auto_delete=False, arguments=arguments).queue
channel.basic_consume(queue, callback=deliveries.append, no_ack=True)
channel.basic_publish_confirm(amqp.Message("late"), routing_key=mortal)
while len(deliveries) < 3:
    connection.drain_events(timeout=20)
assert deliveries[2].headers["x-death"][0]["reason"] == "expired", deliveries[2].headers
step("time to live and dead letter")

connection.confirm_publish = False
transacted = amqp.Channel(connection, None)
transacted.open()
other = transacted.queue_declare("", exclusive=True, auto_delete=False).queue
transacted.tx_select()
transacted._basic_publish(amqp.Message("gone"), routing_key=other)
transacted.tx_rollback()
transacted._basic_publish(amqp.Message("kept"), routing_key=other)
transacted.tx_commit()
assert transacted.basic_get(other, no_ack=True).body == "kept"
step("transactions")

refused(amqp.NotFound, lambda: connection.channel().queue_declare(f"missing-{own}", passive=True))
refused(amqp.PreconditionFailed, lambda: connection.channel().exchange_declare(f"x-{own}", "fanout", auto_delete=True))
step("refusals")

begun = time.monotonic()
while time.monotonic() - begun < 4.5:
    connection.heartbeat_tick()
    try:
        connection.drain_events(timeout=0.2)
    except TimeoutError:
        pass
assert connection.connected and channel.queue_declare(queue, passive=True).message_count == 0
step("heartbeats")

cancelled = []
for deleting in (channel, connection.channel()):
    doomed = channel.queue_declare("", exclusive=True, auto_delete=False).queue
    tag = channel.basic_consume(doomed, callback=deliveries.append, on_cancel=cancelled.append)
    deleting.queue_delete(doomed)
    assert deleting is not channel or not cancelled, "basic.cancel came before queue.delete-ok"
    while tag not in cancelled:
        connection.drain_events(timeout=20)
assert len(cancelled) == 2 and channel.is_open, cancelled
step("queue deletion under a consumer")

# No heartbeats are sent on it while others are used below.
connection.close()

refused(amqp.AccessRefused, lambda: connect("wrong"))
step("a refused login")

broken = connect()
sending = broken.channel()
broken.frame_max = 1 << 24


def send():
    # It fits into the buffers of the system, so that the write does not wait for the broker.
    sending.basic_publish(amqp.Message(bytes(500_000)), routing_key="nowhere")
    broken.drain_events(timeout=20)


refused(amqp.FrameError, send)
step("a frame that is too large")

busy = connect()
flow = busy.channel()
stream = flow.queue_declare("", exclusive=True, auto_delete=False).queue
taken = []
flow.basic_consume(stream, callback=taken.append, no_ack=True)
for _ in range(5000):
    flow.basic_publish(amqp.Message(bytes(1000)), routing_key=stream)
while len(taken) < 100:
    busy.drain_events(timeout=20)
for _ in range(5000):
    flow.basic_publish(amqp.Message(bytes(1000)), routing_key=stream)
begun = time.monotonic()
busy.close()
assert time.monotonic() - begun < 15, "the close took too long"
step("close under load")
step("close")
