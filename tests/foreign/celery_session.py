"""A session of Celery: workers on a classic and on a quorum queue, and an application that calls their tasks.

Each application is a process of its own: this script starts one for each type of queue, and each starts its worker.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

FOLDER = Path(__file__).parent
# The day has 86,400 seconds. The highest bit of this countdown is bit 16.
BEYOND_A_DAY = 100_000
LEVEL = 16


def step(name):
    print(f"celery, {os.environ['HOPMQ_QUEUE_TYPE']} queue: {name}", flush=True)


def until(condition, what):
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.1)
    return found


def count(connection, queue):
    with connection.channel() as channel:
        return channel.queue_declare(queue, passive=True).message_count


def delete(connection, queues, exchanges):
    for queue in queues:
        with connection.channel() as channel:
            channel.queue_delete(queue)
    for exchange in exchanges:
        with connection.channel() as channel:
            channel.exchange_delete(exchange)


def calls(app, tasks, kind, worker):
    """Calls tasks, and returns when their results have come."""
    until(lambda: app.control.ping(timeout=1), "the worker answers a ping")
    assert worker.poll() is None, f"the worker has ended: {worker.returncode}"
    step("ready")

    assert tasks.add.delay(1, 2).get(timeout=60) == [3, False]
    results = [tasks.add.apply_async((number, number), priority=number % 10) for number in range(50)]
    assert [result.get(timeout=60)[0] for result in results] == [2 * number for number in range(50)]
    step("calls and results")

    assert tasks.retried.delay(0).get(timeout=60) == 2
    begun = time.monotonic()
    assert tasks.retried.delay(1).get(timeout=60) == 2
    assert time.monotonic() - begun > 1.9, "a retry was made before its time"
    step("retry")

    begun = time.monotonic()
    assert tasks.add.apply_async((3, 4), countdown=2).get(timeout=60)[0] == 7
    # A countdown in a queue is counted in whole seconds.
    assert time.monotonic() - begun > 1.5, "a countdown was not kept"
    step("countdown")

    assert tasks.killed.delay().get(timeout=60) == "redelivered"
    step("a killed process")


def waits_in_the_broker(app, tasks):
    """A task beyond a day waits in the queue of its highest bit."""
    queue = f"celery_delayed_{LEVEL}"
    with app.connection_for_write() as connection:
        before = count(connection, queue)
        tasks.add.apply_async((5, 6), countdown=BEYOND_A_DAY)
        until(lambda: count(connection, queue) == before + 1, f"the task waits in {queue}")
        with connection.channel() as channel:
            message = channel.basic_get(queue, no_ack=True)
            assert message.headers["task"].endswith("add"), message.headers
    step("a countdown beyond a day")


def waits_in_the_worker(app, tasks):
    """A task beyond a day waits in the worker, which gives it back when it ends."""
    waiting = tasks.add.apply_async((5, 6), countdown=BEYOND_A_DAY)

    def scheduled():
        workers = app.control.inspect(timeout=1).scheduled() or {}
        return [entry["request"]["id"] for entries in workers.values() for entry in entries]

    until(lambda: scheduled() == [waiting.id], "the worker has scheduled the task")
    assert tasks.add.delay(1, 1).get(timeout=60)[0] == 2, "the waiting task blocks others"
    step("a countdown beyond a day")


def run(kind):
    import celery_tasks as tasks

    app = tasks.app
    queue, exchange = app.conf.task_default_queue, app.conf.task_default_exchange
    command = [sys.executable, "-m", "celery", "--app", "celery_tasks", "worker", "--loglevel", "INFO"]
    worker = subprocess.Popen([*command, "--hostname", f"{kind}-{tasks.OWN}"], stdout=sys.stderr)
    try:
        calls(app, tasks, kind, worker)
        (waits_in_the_broker if kind == "quorum" else waits_in_the_worker)(app, tasks)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, "the worker failed to end"
        with app.connection_for_write() as connection:
            left = count(connection, queue)
            assert left == (0 if kind == "quorum" else 1), f"{left} messages are left"
        step("the worker ends")
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        with app.connection_for_write() as connection:
            levels = [f"celery_delayed_{level}" for level in range(28)] if kind == "quorum" else []
            delivery = ["celery_delayed_delivery"] if kind == "quorum" else []
            delete(connection, [queue, *levels], [exchange, *levels, *delivery])
    step("done")


def main(uri):
    environment = os.environ | {"HOPMQ_URI": uri, "HOPMQ_OWN": uuid.uuid4().hex, "PYTHONUNBUFFERED": "1"}
    sessions = [
        subprocess.Popen([sys.executable, __file__, uri, kind], env=environment | {"HOPMQ_QUEUE_TYPE": kind}, cwd=FOLDER)
        for kind in ("classic", "quorum")
    ]
    try:
        assert [session.wait(160) for session in sessions] == [0, 0], "a session has failed"
    finally:
        for session in sessions:
            session.kill()
    print("celery: close", flush=True)


if len(sys.argv) == 3:
    run(sys.argv[2])
else:
    main(sys.argv[1])
