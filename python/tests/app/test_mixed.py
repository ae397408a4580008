"""Workers in Rust and in Python on one queue."""

import json
import os
import subprocess
import threading
from pathlib import Path

import anyio

import hopmq
from hopmq._hopmq import Broker

ROOT = Path(__file__).parents[3]
COUNT = 12


def rust_worker(uri: str) -> "subprocess.Popen[str]":
    """Build the worker of the crate `hopmq-app`, and start it."""
    build = ["cargo", "build", "-p", "hopmq-app", "--example", "mixed_worker", "--message-format", "json"]
    built = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    (program,) = [
        message["executable"] for message in messages if message.get("target", {}).get("name") == "mixed_worker"
    ]
    return subprocess.Popen([program, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_workers_in_rust_and_python_agree_on_attempts_and_dead_letters() -> None:
    broker, app = Broker(), hopmq.App()
    attempts: list[tuple[str, int, str]] = []
    worker = rust_worker(broker.uri)

    def listen() -> None:
        for line in worker.stdout:
            if line.startswith("attempt "):
                _, body, attempt = line.split()
                attempts.append((body, int(attempt), "Rust"))

    @app.consumer("mixed", prefetch=1, retry=hopmq.Retry(3, backoff=["1s"]))
    async def fails(body: str, attempt: hopmq.Attempt) -> None:
        attempts.append((body, attempt, "Python"))
        raise ValueError("not in Python")

    async def main() -> None:
        with anyio.fail_after(50):
            async with app.running(broker.uri), hopmq.connect(broker.uri) as c, c.channel() as channel:
                # The second consumer of the queue is the worker in Rust.
                while (await channel.queue("mixed", durable=True, passive=True)).consumer_count < 2:
                    await anyio.sleep(0.01)
                for number in range(COUNT):
                    await channel.publish("", "mixed", f"m{number}")
                while broker.queues()["mixed.dlq"][0] < COUNT:
                    await anyio.sleep(0.01)

    assert worker.stdout.readline() == "running\n"
    listener = threading.Thread(target=listen)
    listener.start()
    try:
        anyio.run(main)
    finally:
        worker.stdin.close()
        assert worker.wait(timeout=30) == 0
        listener.join()
        worker.stdout.close()
    # Each message had the attempts 1, 2 and 3, wherever each was made.
    assert sorted((body, attempt) for body, attempt, _ in attempts) == sorted(
        (f"m{number}", attempt) for number in range(COUNT) for attempt in (1, 2, 3)
    )
    assert {where for _, _, where in attempts} == {"Rust", "Python"}
    last = {body: where for body, attempt, where in attempts if attempt == 3}
    for message in broker.ready("mixed.dlq"):
        headers = message.headers
        where = last[message.text()]
        assert headers["x-hopmq-attempt"] == 3
        assert headers["x-hopmq-error"] == f"not in {where}"
        assert headers["x-hopmq-error-class"] == {"Rust": "error", "Python": "ValueError"}[where]
        assert (headers["x-hopmq-queue"], headers["x-hopmq-routing-key"]) == ("mixed", "mixed")
