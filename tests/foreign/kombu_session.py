"""A session of kombu, as celery would have one."""

import socket
import sys
import uuid

from amqp import AccessRefused, ConsumerCancelled
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.mixins import ConsumerMixin

own = uuid.uuid4().hex


def step(name):
    print(f"kombu: {name}", flush=True)


with Connection(sys.argv[1], heartbeat=2, transport_options={"confirm_publish": True}) as connection:
    exchange = Exchange(f"x-{own}", "topic", durable=False, auto_delete=True)
    queue = Queue(f"q-{own}", exchange, routing_key="tasks.#", expires=60)
    queue(connection).declare()
    step("declare and bind")

    producer = Producer(connection, exchange)
    for number in range(3):
        producer.publish({"number": number}, routing_key="tasks.add", serializer="json", compression="zlib")
    step("publish and confirm")

    seen = []

    def handle(body, message):
        seen.append(body["number"])
        if len(seen) == 1:
            message.requeue()
        else:
            message.ack()

    with Consumer(connection, [queue], callbacks=[handle], prefetch_count=1):
        while len(seen) < 4:
            connection.drain_events(timeout=20)
    assert seen == [0, 0, 1, 2], seen
    step("consume, requeue, ack")

    assert queue(connection).get() is None
    connection.heartbeat_check()
    queue(connection).delete()
    step("get and delete")

    # Kombu reports the end of a consumer as an error from which it recovers.
    doomed = Queue(f"d-{own}", exclusive=True)
    try:
        with Consumer(connection, [doomed], callbacks=[handle]):
            connection.default_channel.queue_delete(doomed.name)
            connection.drain_events(timeout=20)
        raise AssertionError("the consumer is not cancelled")
    except ConsumerCancelled:
        pass
    assert issubclass(ConsumerCancelled, connection.recoverable_connection_errors)
    step("queue deletion under a consumer")

try:
    with Connection(sys.argv[1].replace("guest:guest", "guest:wrong")) as stranger:
        stranger.ensure_connection(max_retries=1, timeout=20)
    raise AssertionError("the login was not refused")
except AccessRefused:
    step("a refused login")


class Worker(ConsumerMixin):
    """Kombu's own loop: after a loss it connects again, and declares and consumes again."""

    def __init__(self, connection):
        self.connection = connection
        self.queue = Queue(f"r-{own}", Exchange(f"y-{own}", "direct", durable=False, auto_delete=True), "key", expires=60)
        self.seen = []

    def get_consumers(self, Consumer, channel):
        return [Consumer([self.queue], callbacks=[self.handle])]

    def on_consume_ready(self, connection, channel, consumers, **rest):
        producer = Producer(channel, self.queue.exchange, routing_key="key")
        producer.publish(len(self.seen))

    def handle(self, body, message):
        self.seen.append((body, message.delivery_info["redelivered"]))
        self.should_stop = len(self.seen) == 3
        if len(self.seen) == 1:
            # The message is not acked yet, so the queue has it again.
            message.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        else:
            message.ack()


with Connection(sys.argv[1], connect_timeout=20) as connection:
    worker = Worker(connection)
    worker.run()
    assert sorted(worker.seen) == [(0, False), (0, True), (1, False)], worker.seen
    worker.queue(connection).delete()
step("reconnect")
step("close")
