"""What handlers say about messages, and what becomes of these."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import anyio
import pytest

import hopmq


def sending(*bodies: Any, queue: str = "q", **properties: Any) -> Any:
    async def send(channel: hopmq.Channel) -> None:
        for body in bodies:
            await channel.publish("", queue, body, **properties)

    return send


def test_a_handler_that_returns_acks(world: Any) -> None:
    app, seen = hopmq.App(), []

    @app.consumer("q")
    async def handle(body: bytes) -> None:
        seen.append(body)
        if len(seen) == 3:
            app.stop()

    world.run(app, sending(b"1", b"2", b"3"))
    assert seen == [b"1", b"2", b"3"]
    assert world.broker.queues()["q"] == (0, 0)


def test_an_exception_is_tried_again_and_then_goes_to_the_dead_letters(world: Any) -> None:
    app, attempts = hopmq.App(), []

    @app.consumer("q", retry=hopmq.Retry(3, backoff="1ms"))
    async def handle(body: bytes, attempt: hopmq.Attempt) -> None:
        attempts.append(attempt)
        if attempt == 3:
            app.stop()
        message = "out of flour"
        raise KeyError(message)

    world.run(app, sending(b"1"))
    assert attempts == [1, 2, 3]
    assert world.dead() == [("KeyError", "'out of flour'")]


@pytest.mark.parametrize("is_raised", [True, False])
@pytest.mark.parametrize(
    ("outcome", "queue", "error_class"),
    [
        (hopmq.Reject("why"), "q.dlq", "reject"),
        (hopmq.Reject("why", error_class="stale"), "q.dlq", "stale"),
        (hopmq.Park("why"), "q.parked", "park"),
        (hopmq.TryAgain("why"), "q.dlq", "retry"),
    ],
)
def test_an_outcome_is_raised_or_returned(
    world: Any,
    outcome: hopmq.Outcome,
    queue: str,
    error_class: str,
    is_raised: bool,  # noqa: FBT001
) -> None:
    app = hopmq.App()

    @app.consumer("q")
    async def handle(body: bytes) -> hopmq.Outcome:
        app.stop()
        if is_raised:
            raise outcome
        return outcome

    world.run(app, sending(b"1"))
    assert world.dead(queue) == [(error_class, "why")]


def test_a_released_message_goes_back_at_once(world: Any) -> None:
    app, seen = hopmq.App(), []

    @app.consumer("q")
    async def handle(message: hopmq.Incoming) -> None:
        seen.append(message.redelivered)
        if not message.redelivered:
            raise hopmq.Release
        app.stop()

    world.run(app, sending(b"1"))
    assert seen == [False, True]
    assert world.broker.queues()["q"] == (0, 0)


def test_a_wait_that_the_handler_asks_for_is_kept(world: Any) -> None:
    app, times = hopmq.App(), []

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(body: bytes) -> None:
        times.append(time.monotonic())
        if len(times) == 2:
            app.stop()
            return
        raise hopmq.TryAgain("later", after="200ms")

    world.run(app, sending(b"1"))
    assert times[1] - times[0] >= 0.19


def test_a_class_of_exceptions_has_its_own_attempts(world: Any) -> None:
    app, attempts = hopmq.App(), []

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"), retry_class={OSError: hopmq.Retry(4, backoff="1ms")})
    async def handle(body: bytes, attempt: hopmq.Attempt) -> None:
        attempts.append(attempt)
        if attempt == 4:
            app.stop()
        raise OSError

    world.run(app, sending(b"1"))
    assert attempts == [1, 2, 3, 4]


def test_a_plain_function_runs_on_a_thread_and_blocks_no_other(world: Any) -> None:
    import threading

    app, main = hopmq.App(), threading.get_ident()
    both, seen = threading.Barrier(2), []

    @app.consumer("q", concurrency=2)
    def handle(body: bytes) -> None:
        both.wait(timeout=10)
        seen.append(threading.get_ident() != main)
        if len(seen) == 2:
            app.stop()

    world.run(app, sending(b"1", b"2"))
    assert seen == [True, True]


def test_handlers_run_at_once_up_to_the_concurrency(world: Any) -> None:
    app = hopmq.App()
    running = most = done = 0

    @app.consumer("q", concurrency=5)
    async def handle(body: bytes) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01)
        running -= 1
        done += 1
        if done == 20:
            app.stop()

    world.run(app, sending(*[b"x"] * 20))
    assert most == 5


def test_a_stop_finishes_what_is_at_work_and_leaves_the_rest(world: Any) -> None:
    app, done = hopmq.App(), []

    @app.consumer("q", prefetch=1)
    async def handle(body: bytes) -> None:
        app.stop()
        await anyio.sleep(0.05)
        done.append(body)

    world.run(app, sending(b"1", b"2"))
    world.broker.settle()
    assert done == [b"1"]
    assert world.broker.queues()["q"] == (1, 0)


def test_a_handler_that_takes_longer_than_the_drain_gives_its_message_back(world: Any) -> None:
    app, ended = hopmq.App(drain_timeout="50ms"), []

    @app.consumer("q")
    async def handle(body: bytes) -> None:
        app.stop()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(body)

    world.run(app, sending(b"1"))
    world.broker.settle()
    assert ended == [b"1"]
    assert world.broker.queues()["q"] == (1, 0)


def test_a_cancelled_run_gives_its_messages_back(world: Any) -> None:
    app = hopmq.App(world.uri)

    async def main() -> None:
        begun = anyio.Event()

        @app.consumer("q")
        async def handle(body: bytes) -> None:
            begun.set()
            await anyio.sleep_forever()

        async with hopmq.connect(world.uri) as c, c.channel() as channel, anyio.create_task_group() as tasks:
            await channel.queue("q", durable=True)
            await channel.publish("", "q", b"1")
            tasks.start_soon(app.run)
            with anyio.fail_after(10):
                await begun.wait()
            tasks.cancel_scope.cancel()

    world.until_done(main)
    world.broker.settle()
    assert world.broker.queues()["q"] == (1, 0)


def test_a_handler_that_blocks_the_loop_is_told_in_the_log(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = hopmq.App(block_warning=0.1)

    @app.consumer("q")
    async def handle(body: bytes) -> None:
        # Until the log has the warning, or far longer than it needs.
        end = time.monotonic() + 10
        while "blocks it" not in caplog.text and time.monotonic() < end:
            time.sleep(0.02)  # noqa: ASYNC251 - that is what is tested
        app.stop()

    with caplog.at_level(logging.WARNING, "hopmq.app"):
        world.run(app, sending(b"1"))
    assert "test_outcomes.py" in caplog.text and "time.sleep(0.02)" in caplog.text


def test_an_app_that_can_not_start_says_why(world: Any) -> None:
    app = hopmq.App(world.uri)

    @app.consumer("q", bind=("nowhere", "#"))
    async def handle(body: bytes) -> None: ...

    with pytest.raises(hopmq.AppError, match="can't be bound to the exchange 'nowhere'") as caught:
        world.until_done(app.run)
    assert caught.value.kind == "Missing" and caught.value.code == 404
    assert 'with `app.exchange("nowhere")`' in str(caught.value)


def test_an_app_runs_again_after_its_end(world: Any) -> None:
    app, seen = hopmq.App(), []

    @app.consumer("q")
    async def handle(body: str) -> None:
        seen.append(body)
        app.stop()

    world.run(app, sending("1"))
    world.run(app, sending("2"))
    assert seen == ["1", "2"]


def test_an_outcome_that_is_wrong_is_a_failure_of_the_handler(world: Any) -> None:
    app = hopmq.App()

    @app.consumer("q")
    async def handle(body: bytes) -> None:
        if body == b"3":
            app.stop()
            return
        raise hopmq.TryAgain("later", after="soon" if body == b"1" else object())  # type: ignore[arg-type]

    world.run(app, sending(b"1", b"2", b"3"))
    assert [error_class for error_class, _ in world.dead()] == ["ValueError", "TypeError"]


@pytest.mark.parametrize("world", ["asyncio"], indirect=True)
def test_a_handler_whose_own_wait_is_cancelled_is_tried_again(world: Any) -> None:
    app, attempts = hopmq.App(), []

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(attempt: hopmq.Attempt) -> None:
        attempts.append(attempt)
        if attempt == 2:
            app.stop()
            return
        raise asyncio.CancelledError

    world.run(app, sending(b"1"))
    assert attempts == [1, 2]
