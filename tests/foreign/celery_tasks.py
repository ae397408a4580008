"""The Celery application of the session: its workers and the session import it."""

import os
import uuid

from celery import Celery
from kombu import Exchange, Queue

OWN = os.environ.setdefault("HOPMQ_OWN", uuid.uuid4().hex)
# "quorum" or "classic": which queue this process uses.
KIND = os.environ.get("HOPMQ_QUEUE_TYPE", "classic")


def application(kind):
    app = Celery(f"session-{kind}", broker=os.environ["HOPMQ_URI"], backend="rpc://")
    exchange = Exchange(f"x-{kind}-{OWN}", "topic" if kind == "quorum" else "direct")
    arguments = {"x-queue-type": kind} if kind == "quorum" else {"x-max-priority": 10}
    name = f"q-{kind}-{OWN}"
    app.conf.update(
        task_queues=[Queue(name, exchange, routing_key=name, queue_arguments=arguments)],
        task_default_queue=name,
        task_default_exchange=exchange.name,
        task_default_exchange_type=exchange.type,
        task_default_routing_key=name,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A starting worker waits until a second passes without a frame, and a heartbeat is one.
        broker_heartbeat=10,
        broker_transport_options={"confirm_publish": True},
        worker_prefetch_multiplier=1,
        worker_concurrency=2,
        worker_hijack_root_logger=False,
        control_queue_expires=60,
        event_queue_expires=60,
        result_expires=60,
    )
    return app


app = application(KIND)


@app.task(bind=True)
def add(self, left, right):
    return left + right, self.request.delivery_info["redelivered"]


@app.task(bind=True)
def retried(self, countdown):
    """Fails twice."""
    if self.request.retries < 2:
        raise self.retry(countdown=countdown, max_retries=3)
    return self.request.retries


@app.task(bind=True)
def killed(self):
    """Ends its process the first time."""
    if not self.request.delivery_info["redelivered"]:
        os._exit(1)
    return "redelivered"
