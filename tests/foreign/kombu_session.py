"""A session of kombu, as celery would have one."""

import sys
import uuid

from kombu import Connection, Consumer, Exchange, Producer, Queue

own = uuid.uuid4().hex


def step(name):
    print(f"kombu: {name}", flush=True)


with Connection(sys.argv[1], heartbeat=2, transport_options={"confirm_publish": True}) as connection:
    exchange = Exchange(f"x-{own}", "topic", durable=False, auto_delete=True)
    queue = Queue(f"q-{own}", exchange, routing_key="tasks.#", durable=False, expires=60)
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
step("close")
