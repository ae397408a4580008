"""A session of pika."""

import sys
import time
import uuid

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAuthenticationError,
    UnroutableError,
)

parameters = pika.URLParameters(sys.argv[1])
parameters.heartbeat = 2
own = uuid.uuid4().hex


def step(name):
    print(f"pika: {name}", flush=True)


def refused(code, action):
    try:
        action()
    except ChannelClosedByBroker as error:
        assert error.reply_code == code, error
        return error.reply_text
    raise AssertionError(f"expected a refusal with {code}, but nothing was refused")


def one(channel, queue):
    for method, properties, body in channel.consume(queue, inactivity_timeout=20):
        assert method is not None, f"no delivery within the timeout from {queue}"
        channel.cancel()
        return method, properties, body


connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.exchange_declare(f"x-{own}", "topic", auto_delete=True)
queue = channel.queue_declare("", exclusive=True).method.queue
assert queue.startswith("amq.gen-"), queue
channel.queue_bind(queue, f"x-{own}", "orders.#")
step("declare and bind")

channel.confirm_delivery()
properties = pika.BasicProperties(
    content_type="text/plain",
    headers={"n": 1, "s": "text", "list": [1, True, None], "table": {"a": 1 << 40}},
    delivery_mode=2,
    priority=3,
    correlation_id="c",
    reply_to="r",
    message_id="m",
    timestamp=1_700_000_000,
    type="t",
    user_id="guest",
    app_id="a",
)
channel.basic_publish(f"x-{own}", "orders.eu", b"hello", properties, mandatory=True)
try:
    channel.basic_publish(f"x-{own}", "elsewhere", b"back", mandatory=True)
    raise AssertionError("the message was not returned")
except UnroutableError as error:
    assert error.messages[0].body == b"back" and error.messages[0].method.reply_code == 312
step("publish, confirm, return")

method, got, body = one(channel, queue)
assert (method.exchange, method.routing_key, body) == (f"x-{own}", "orders.eu", b"hello")
assert got.headers == properties.headers and got.timestamp == properties.timestamp and got.type == "t", got
channel.basic_nack(method.delivery_tag, requeue=True)
method, got, body = channel.basic_get(queue)
assert method.redelivered and method.message_count == 0 and body == b"hello"
channel.basic_ack(method.delivery_tag)
assert channel.basic_get(queue)[0] is None
step("consume, nack, get, ack")

channel.basic_qos(prefetch_count=1)
for number in range(5):
    channel.basic_publish("", queue, str(number).encode())
seen = []
for method, _, body in channel.consume(queue, inactivity_timeout=20):
    seen.append(body)
    channel.basic_ack(method.delivery_tag)
    if len(seen) == 5:
        break
channel.cancel()
assert seen == [b"0", b"1", b"2", b"3", b"4"], seen
step("prefetch")

arguments = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
mortal = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
channel.basic_publish("", mortal, b"late")
method, got, body = one(channel, queue)
death = got.headers["x-death"][0]
assert (body, death["reason"], death["queue"], death["count"]) == (b"late", "expired", mortal, 1), death
channel.basic_ack(method.delivery_tag)
step("time to live and dead letter")

arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
full = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
channel.basic_publish("", full, b"fits")
try:
    channel.basic_publish("", full, b"does not")
    raise AssertionError("the message was not nacked")
except NackError:
    step("refuse")

transacted = connection.channel()
transacted.tx_select()
transacted.basic_publish("", queue, b"gone")
transacted.tx_rollback()
transacted.basic_publish("", queue, b"kept")
transacted.tx_commit()
assert one(transacted, queue)[2] == b"kept"
transacted.tx_commit()
transacted.close()
step("transactions")

other = connection.channel()
refused(404, lambda: other.queue_declare(f"missing-{own}", passive=True))
text = refused(406, lambda: connection.channel().exchange_declare(f"x-{own}", "fanout"))
assert "inequivalent arg 'type'" in text, text
refused(403, lambda: connection.channel().queue_declare("amq.mine"))
assert channel.is_open and connection.is_open
step("refusals")

connection.process_data_events(time_limit=4.5)
assert connection.is_open and channel.queue_declare(queue, passive=True).method.message_count >= 0
step("heartbeats")

cancelled = []
channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
for deleting in (channel, connection.channel()):
    doomed = channel.queue_declare("", exclusive=True).method.queue
    tag = channel.basic_consume(doomed, lambda *delivery: None)
    deleting.queue_delete(doomed)
    end = time.monotonic() + 20
    while tag not in cancelled:
        assert time.monotonic() < end, "the consumer is not cancelled"
        connection.process_data_events(time_limit=1)
assert len(cancelled) == 2 and channel.is_open, cancelled
step("queue deletion under a consumer")

# No heartbeats are sent on it while others are used below.
connection.close()
parameters.heartbeat = 60

stranger = pika.URLParameters(sys.argv[1].replace("guest:guest", "guest:wrong"))
try:
    pika.BlockingConnection(stranger)
    raise AssertionError("the login was not refused")
except ProbableAuthenticationError as error:
    assert "ACCESS_REFUSED" in str(error), error
step("a refused login")

broken = pika.BlockingConnection(parameters)
sending = broken.channel()
broken._impl._body_max_length = 1 << 24
try:
    # It fits into the buffers of the system, so that the write does not wait for the broker.
    sending.basic_publish("", "nowhere", bytes(500_000))
    broken.process_data_events(time_limit=20)
    raise AssertionError("the frame was not refused")
except ConnectionClosedByBroker as error:
    assert error.reply_code == 501 and "FRAME_ERROR" in error.reply_text, error
step("a frame that is too large")

busy = pika.BlockingConnection(parameters)
flow = busy.channel()
stream = flow.queue_declare("", exclusive=True).method.queue
taken = []
flow.basic_consume(stream, lambda *delivery: taken.append(1), auto_ack=True)
for _ in range(2):
    for _ in range(5000):
        flow.basic_publish("", stream, bytes(1000))
    busy.process_data_events(time_limit=1)
assert taken, "no deliveries"
for _ in range(5000):
    flow.basic_publish("", stream, bytes(1000))
begun = time.monotonic()
busy.close()
assert busy.is_closed and time.monotonic() - begun < 15, "the close took too long"
step("close under load")
step("close")
