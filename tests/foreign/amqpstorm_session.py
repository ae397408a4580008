"""A session of amqpstorm."""

import sys
import threading
import time
import uuid

import amqpstorm
from amqpstorm.channel0 import Channel0

own = uuid.uuid4().hex


def step(name):
    print(f"amqpstorm: {name}", flush=True)


def until(condition, what):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.01)


def refused(refusal, code, action):
    try:
        action()
    except refusal as error:
        assert error.error_code == code, (error.error_code, error)
        return str(error)
    raise AssertionError(f"expected a refusal with {code}, but nothing was refused")


# amqpstorm logs in with EXTERNAL wherever that is offered, even without a certificate.
start = Channel0._send_start_ok


def start_with_plain(channel0, frame):
    frame.mechanisms = "PLAIN"
    start(channel0, frame)


Channel0._send_start_ok = start_with_plain


def connect(uri=sys.argv[1], heartbeat=60):
    return amqpstorm.UriConnection(f"{uri}?heartbeat={heartbeat}&timeout=20")


def one(channel, queue):
    """Returns the next delivery of a queue, and cancels the consumer."""
    got = []
    tag = channel.basic.consume(got.append, queue)
    until(lambda: channel.process_data_events() or got, f"a delivery from {queue}")
    channel.basic.cancel(tag)
    return got[0]


connection = connect(heartbeat=2)
channel = connection.channel()
channel.exchange.declare(f"x-{own}", "topic", auto_delete=True)
queue = channel.queue.declare("", exclusive=True)["queue"]
channel.queue.bind(queue, f"x-{own}", "orders.#")
step("declare and bind")

channel.confirm_deliveries()
headers = {"n": 1, "s": "text", "list": [1, True, None], "table": {"a": 1 << 40}}
properties = {"headers": headers, "delivery_mode": 2, "message_id": "m", "priority": 3}
assert channel.basic.publish(b"hello", "orders.eu", f"x-{own}", properties, mandatory=True)
refused(
    amqpstorm.AMQPMessageError, 312, lambda: channel.basic.publish(b"back", "elsewhere", f"x-{own}", mandatory=True)
)
step("publish, confirm, return")

message = one(channel, queue)
assert message.body == "hello" and message.properties["headers"] == headers, message.properties
assert message.message_id == "m" and message.priority == 3
message.nack(requeue=True)
message = channel.basic.get(queue)
assert message.redelivered
message.ack()
assert channel.basic.get(queue) is None
step("consume, nack, get, ack")

channel.basic.publish(b"stays", queue)
assert channel.queue.declare(queue, passive=True)["message_count"] == 1, "a cancelled consumer has taken a message"
assert channel.basic.get(queue, no_ack=True).body == "stays"
step("cancel")

large = bytes(1_000_000)
channel.basic.publish(large, queue)
assert channel.basic.get(queue, no_ack=True, auto_decode=False).body == large
step("a large body")

arguments = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
mortal = channel.queue.declare("", exclusive=True, arguments=arguments)["queue"]
channel.basic.publish(b"late", mortal)
message = one(channel, queue)
assert message.properties["headers"]["x-death"][0]["reason"] == "expired", message.properties
message.ack()
step("time to live and dead letter")

transacted = connection.channel()
with transacted.tx:
    transacted.basic.publish(b"gone", queue)
    transacted.tx.rollback()
with transacted.tx:
    transacted.basic.publish(b"kept", queue)
assert channel.basic.get(queue, no_ack=True).body == "kept"
step("transactions")

refused(amqpstorm.AMQPChannelError, 404, lambda: connection.channel().queue.declare(f"missing-{own}", passive=True))
refused(amqpstorm.AMQPChannelError, 406, lambda: connection.channel().exchange.declare(f"x-{own}", "fanout"))
refused(amqpstorm.AMQPChannelError, 403, lambda: connection.channel().queue.declare("amq.mine"))
step("refusals")

for deleting in (channel, connection.channel()):
    doomed = channel.queue.declare("", exclusive=True)["queue"]
    channel.basic.consume(print, doomed)
    deleting.queue.delete(doomed)
    until(lambda: not channel.consumer_tags, "the consumer is cancelled with its queue")
    assert channel.queue.declare(queue, passive=True)["queue"] == queue
step("queue deletion under a consumer")

until_beats = time.monotonic() + 4.5
until(lambda: time.monotonic() > until_beats, "time passes")
assert connection.is_open and channel.queue.declare(queue, passive=True)["message_count"] == 0
connection.close()
assert not connection.exceptions, connection.exceptions
step("heartbeats")

error = refused(
    amqpstorm.AMQPConnectionError, 403, lambda: connect(sys.argv[1].replace("guest:guest", "guest:wrong"))
)
assert "ACCESS_REFUSED" in error, error
step("a refused login")

doomed = connect()
sending = doomed.channel()
sending.basic._max_frame_size = 1 << 24
try:
    sending.basic.publish(bytes(8_000_000), queue)
    until(lambda: sending.check_for_errors(), "the connection is closed")
except amqpstorm.AMQPConnectionError:
    pass
until(lambda: doomed.is_closed, "the connection is closed")
assert any("FRAME_ERROR" in str(error) for error in doomed.exceptions), doomed.exceptions
step("a frame that is too large")

busy = connect()
flow = busy.channel()
stream = flow.queue.declare("", exclusive=True)["queue"]
got = []
flow.basic.consume(got.append, stream, no_ack=True)
taking = threading.Thread(target=flow.start_consuming, daemon=True)
taking.start()
source = busy.channel()


def flood():
    try:
        while True:
            source.basic.publish(bytes(1000), stream)
    except amqpstorm.AMQPError:
        pass


flooding = threading.Thread(target=flood, daemon=True)
flooding.start()
until(lambda: len(got) > 100, "messages flow")
begun = time.monotonic()
busy.close()
assert time.monotonic() - begun < 15, "the close took too long"
# The client's own error of the thread that still publishes.
assert {str(error) for error in busy.exceptions} <= {"connection closed"}, busy.exceptions
step("close under load")
step("close")
