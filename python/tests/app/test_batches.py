"""Handlers of batches, groups and ordered keys."""

from typing import Any

import anyio
import pytest

import hopmq


def sending(*bodies: Any, queue: str = "q", **properties: Any) -> Any:
    async def send(channel: hopmq.Channel) -> None:
        confirms = [await channel.publish_later("", queue, body, **properties) for body in bodies]
        for confirm in confirms:
            await confirm

    return send


def test_a_batch_is_a_list_and_has_one_outcome(world: Any) -> None:
    app, got = hopmq.App(), []

    @app.consumer("q", batch=hopmq.BatchLimits(4, within="10s"))
    async def handle(orders: list[int]) -> None:
        got.append(orders)
        if len(got) == 2:
            app.stop()

    world.run(app, sending(*[str(number) for number in range(8)], content_type="application/json"))
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert world.broker.queues()["q"] == (0, 0)


def test_a_batch_that_fails_is_tried_again_message_by_message(world: Any) -> None:
    app, got = hopmq.App(), []

    @app.consumer("q", batch=hopmq.BatchLimits(2, within="20ms"), retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(messages: list[hopmq.Incoming]) -> None:
        got.extend((message.body, message.attempt) for message in messages)
        if len(got) == 4:
            app.stop()
        message = "down"
        raise OSError(message)

    world.run(app, sending(b"1", b"2"))
    assert sorted(got) == [(b"1", 1), (b"1", 2), (b"2", 1), (b"2", 2)]
    assert world.dead() == [("OSError", "down")] * 2


def test_each_message_of_a_batch_may_have_its_own_outcome(world: Any) -> None:
    app = hopmq.App()

    @app.consumer("q", batch=hopmq.BatchLimits(3, within="10s"))
    async def handle(messages: list[bytes]) -> list[hopmq.Outcome | None]:
        app.stop()
        return [None, hopmq.Reject("second"), hopmq.Park("third")]

    world.run(app, sending(b"1", b"2", b"3"))
    assert world.dead() == [("reject", "second")]
    assert world.dead("q.parked") == [("park", "third")]


def test_a_message_that_can_not_be_read_leaves_its_batch_alone(world: Any) -> None:
    app, got = hopmq.App(), []

    @app.consumer("q", batch=hopmq.BatchLimits(3, within="10s"))
    async def handle(orders: list[dict]) -> None:
        got.append(orders)
        app.stop()

    world.run(app, sending(b'{"id": 1}', b"{", b'{"id": 2}'))
    assert got == [[{"id": 1}, {"id": 2}]]
    assert [error_class for error_class, _ in world.dead()] == ["decode"]


def test_another_number_of_outcomes_than_messages_is_a_failure_of_all(world: Any) -> None:
    app = hopmq.App()

    @app.consumer("q", batch=hopmq.BatchLimits(2, within="10s"))
    async def handle(messages: list[bytes]) -> list[None]:
        app.stop()
        return [None]

    world.run(app, sending(b"1", b"2"))
    assert world.dead() == [("outcomes", "the batch handler returned 1 outcomes for 2 messages")] * 2


def test_members_of_a_group_share_a_queue_and_others_get_each_message(world: Any) -> None:
    app, got = hopmq.App(), []
    app.exchange("shop")

    def seen(name: str) -> None:
        got.append(name)
        if len(got) == 2:
            app.stop()

    @app.consumer(bind=("shop", "order.*"), group="billing")
    async def bill(body: bytes) -> None:
        seen("group")

    @app.consumer(bind=("shop", "#"))
    async def each(body: bytes) -> None:
        seen("each")

    async def send(channel: hopmq.Channel) -> None:
        await channel.publish("shop", "order.new", b"")

    world.run(app, send)
    assert sorted(got) == ["each", "group"]
    assert "shop.billing" in world.broker.queues()


@pytest.mark.parametrize("key", ["x-customer", lambda message: message.header("x-customer")])
def test_messages_with_the_same_key_stay_in_order(world: Any, key: Any) -> None:
    app, got = hopmq.App(), []

    @app.consumer("q", concurrency=8, ordered_by=key)
    async def handle(message: hopmq.Incoming) -> None:
        number = int(message.body)
        # Earlier messages take longer: only the key keeps their order.
        await anyio.sleep(0.003 * (6 - number // 3))
        got.append((message.header("x-customer"), number))
        if len(got) == 18:
            app.stop()

    async def send(channel: hopmq.Channel) -> None:
        for number in range(18):
            await channel.publish("", "q", str(number), headers={"x-customer": f"c{number % 3}"})

    world.run(app, send)
    for customer in ("c0", "c1", "c2"):
        numbers = [number for each, number in got if each == customer]
        assert numbers == sorted(numbers)


def test_a_key_function_that_fails_sends_its_message_to_the_dead_letters(world: Any) -> None:
    app = hopmq.App()

    def key(message: hopmq.Message) -> str:
        return message.headers["x-customer"]

    @app.consumer("q", ordered_by=key)
    async def handle(body: bytes) -> None:
        app.stop()

    async def send(channel: hopmq.Channel) -> None:
        await channel.publish("", "q", b"1")
        await channel.publish("", "q", b"2", headers={"x-customer": "c"})

    world.run(app, send)
    ((error_class, text),) = world.dead()
    assert error_class == "panic" and "ordered_by" in text
