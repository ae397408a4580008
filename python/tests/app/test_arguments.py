"""Where the arguments of handlers come from."""

# Annotations are types at run time here, as in most programs; test_outcomes.py has them as texts.
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pytest

import hopmq
from hopmq import Depends, Header, Publish, State


class PydanticOrder(pydantic.BaseModel):
    id: int


class MsgspecOrder(msgspec.Struct):
    id: int


@dataclasses.dataclass
class Order:
    id: int
    at: dt.datetime | None = None
    items: list["Item"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Item:
    name: str


@attrs.define
class AttrsOrder:
    id: int


def sending(*bodies: Any, **properties: Any) -> Any:
    async def send(channel: hopmq.Channel) -> None:
        for body in bodies:
            await channel.publish("", "q", body, **properties)

    return send


def received(world: Any, kind: Any, body: Any, **properties: Any) -> Any:
    """Return what a handler that takes a type gets; the reason of the dead letter if it gets nothing."""
    app, got = hopmq.App(), []

    @app.consumer("q")
    async def handle(body: kind) -> None:
        got.append(body)

    @app.consumer("end")
    async def end(body: bytes) -> None:
        app.stop()

    async def send(channel: hopmq.Channel) -> None:
        await channel.publish("", "q", body, **properties)
        # An app that stops finishes what it has taken: wait until the message was.
        while world.broker.queues()["q"] != (0, 0):
            await channel.publish("", "none", b"")
        await channel.publish("", "end", b"")

    world.run(app, send)
    return got[0] if got else world.dead()[0]


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        (bytes, b"\xff", b"\xff"),
        (str, "ä", "ä"),
        (dict, {"id": 1}, {"id": 1}),
        (list, [1], [1]),
        (list[int], [1], [1]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (PydanticOrder, {"id": 1}, PydanticOrder(id=1)),
        (list[PydanticOrder], [{"id": 1}], [PydanticOrder(id=1)]),
        (MsgspecOrder, {"id": 1}, MsgspecOrder(1)),
        (AttrsOrder, {"id": 1}, AttrsOrder(1)),
        (Order, {"id": 1, "items": [{"name": "a"}]}, Order(1, None, [Item("a")])),
        (Order, {"id": 1, "at": "2026-11-30T12:00:00"}, Order(1, dt.datetime(2026, 11, 30, 12))),  # noqa: DTZ001
        (Order | None, None, None),
    ],
)
def test_a_body_is_read_as_the_type_of_its_argument(world: Any, kind: Any, body: Any, value: Any) -> None:
    assert received(world, kind, body) == value


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (str, b"\xff", ("decode", "the body is no text")),
        (dict, b"{", ("decode", "the body is not the JSON of dict")),
        (dict, b"[]", ("invalid", "the whole must be an object, not list")),
        (Order, b'{"id": "1"}', ("invalid", "the body is no valid Order: id must be an integer, not str")),
        (Order, b'{"id": 1, "items": [{}]}', ("invalid", "items[0].name is missing")),
        (PydanticOrder, b"{", ("decode", "the body is not the JSON of PydanticOrder")),
        (PydanticOrder, b"{}", ("invalid", "id: Field required")),
        (MsgspecOrder, b"{", ("decode", "the body is not the JSON of MsgspecOrder")),
        (MsgspecOrder, b"{}", ("invalid", "missing required field `id`")),
        (AttrsOrder, b'{"id": null}', ("invalid", "id must be an integer, not NoneType")),
    ],
)
def test_a_body_that_does_not_fit_goes_to_the_dead_letters(world: Any, kind: Any, body: Any, reason: Any) -> None:
    error_class, text = received(world, kind, body)
    assert error_class == reason[0]
    assert reason[1] in text


def test_a_body_of_another_content_type_goes_to_the_dead_letters(world: Any) -> None:
    reason = received(world, dict, b"<a/>", content_type="text/xml")
    assert reason == ("content-type", 'the content type is "text/xml", and the handler reads JSON')


def test_a_content_type_of_json_has_parameters_and_suffixes(world: Any) -> None:
    assert received(world, dict, b"{}", content_type="Application/vnd.shop+JSON; charset=utf-8") == {}


def test_a_broken_compression_goes_to_the_dead_letters(world: Any) -> None:
    assert received(world, bytes, b"x", content_encoding="br")[0] == "content-encoding"


def test_headers_are_arguments(world: Any) -> None:
    app, got = hopmq.App(), []

    @app.consumer("q")
    async def handle(
        user: Annotated[str, Header("x-user")],
        rank: Annotated[int | None, Header("x-rank")],
        body: bytes,
        kind: Annotated[str, Header("x-kind")] = "new",
    ) -> None:
        got.append((user, rank, body, kind))
        app.stop()

    world.run(app, sending(b"1", headers={"x-user": "ann"}))
    assert got == [("ann", None, b"1", "new")]


@pytest.mark.parametrize(
    ("headers", "text"),
    [({}, "the header 'x-rank' is missing"), ({"x-rank": "high"}, "the header 'x-rank' is 'high', not int")],
)
def test_a_header_that_does_not_fit_goes_to_the_dead_letters(world: Any, headers: Any, text: str) -> None:
    app = hopmq.App()

    @app.consumer("q")
    async def handle(rank: Annotated[int, Header("x-rank")]) -> None:
        app.stop()

    async def send(channel: hopmq.Channel) -> None:
        await sending(b"1", headers=headers)(channel)
        await sending(b"2", headers={"x-rank": 1})(channel)

    world.run(app, send)
    assert world.dead() == [("header", text)]


def test_dependencies_are_called_once_a_message_and_cleaned_up_before_the_ack(world: Any) -> None:
    app, log = hopmq.App(), []

    def settings() -> str:
        log.append("settings")
        return "s"

    async def session(config: Annotated[str, Depends(settings)]) -> AsyncIterator[str]:
        log.append("open")
        try:
            yield config + "ession"
        except ValueError:
            log.append("rollback")
            raise
        else:
            log.append("commit")

    def plain(config: str = Depends(settings)) -> Iterator[str]:
        yield config
        log.append("plain")

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(
        body: bytes,
        db: Annotated[str, Depends(session)],
        attempt: hopmq.Attempt,
        config: str = Depends(settings),
        other: str = Depends(plain),
    ) -> None:
        assert (db, config, other) == ("session", "s", "s")
        if attempt == 1:
            raise ValueError
        app.stop()

    world.run(app, sending(b"1"))
    assert log == ["settings", "open", "rollback", "settings", "open", "plain", "commit"]
    assert world.broker.queues()["q"] == (0, 0)


def test_a_cleanup_that_fails_has_the_message_tried_again(world: Any) -> None:
    app, attempts = hopmq.App(), []

    async def session() -> AsyncIterator[None]:
        yield
        if len(attempts) == 1:
            message = "no commit"
            raise OSError(message)

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(attempt: hopmq.Attempt, db: Annotated[None, Depends(session)]) -> None:
        attempts.append(attempt)
        if attempt == 2:
            app.stop()

    world.run(app, sending(b"1"))
    assert attempts == [1, 2]


def test_tests_replace_dependencies(world: Any) -> None:
    app, got = hopmq.App(), []

    async def real() -> str:
        raise AssertionError

    @app.consumer("q")
    async def handle(body: bytes, db: Annotated[str, Depends(real)]) -> None:
        got.append(db)
        app.stop()

    app.dependency_overrides[real] = lambda: "fake"
    world.run(app, sending(b"1"))
    assert got == ["fake"]


def test_the_lifespan_is_open_while_the_app_runs_and_yields_the_state(world: Any) -> None:
    log = []

    @asynccontextmanager
    async def lifespan(_app: hopmq.App) -> AsyncIterator[dict[str, str]]:
        log.append("open")
        yield {"pool": "p"}
        log.append("closed")

    app = hopmq.App(lifespan=lifespan)

    @app.consumer("q")
    async def handle(body: bytes, pool: Annotated[str, State("pool")], state: Annotated[Any, State]) -> None:
        log.append(pool)
        assert state == {"pool": "p"}
        app.stop()

    world.run(app, sending(b"1"))
    assert log == ["open", "p", "closed"]


def test_middleware_wraps_handlers_in_its_order(world: Any) -> None:
    log = []

    def named(name: str) -> Any:
        async def middleware(message: hopmq.Incoming, call_next: Any) -> Any:
            log.append(f"{name} {message.queue}")
            try:
                return await call_next()
            except ValueError:
                log.append(f"{name} failed")
                raise hopmq.Reject("no") from None

        return middleware

    app = hopmq.App(middleware=[named("outer"), named("inner")])

    @app.consumer("q")
    async def handle(body: bytes) -> None:
        app.stop()
        raise ValueError

    world.run(app, sending(b"1"))
    assert log == ["outer q", "inner q", "inner failed"]
    assert world.dead() == [("reject", "no")]


def test_a_result_is_published_before_the_ack(world: Any) -> None:
    app = hopmq.App()
    got = []

    @app.consumer("q")
    async def handle(order: Order) -> Annotated[Order, Publish("invoices")]:
        return order

    @app.consumer("invoices")
    async def invoice(order: Order, message: hopmq.Message) -> None:
        got.append((order, message.delivery_mode))
        app.stop()

    world.run(app, sending({"id": 7}))
    assert got == [(Order(7), 2)]


def test_a_result_that_no_queue_takes_has_the_message_tried_again(world: Any) -> None:
    app, attempts = hopmq.App(), []

    @app.consumer("q", retry=hopmq.Retry(2, backoff="1ms"))
    async def handle(attempt: hopmq.Attempt) -> Annotated[str, Publish("nowhere")]:
        attempts.append(attempt)
        if attempt == 2:
            app.stop()
        return "x"

    world.run(app, sending(b"1"))
    assert attempts == [1, 2]
    assert world.dead()[0][0] == "Returned"


def test_a_router_brings_its_handlers(world: Any) -> None:
    router, app, got = hopmq.Router(), hopmq.App(), []
    router.exchange("shop")

    @router.consumer("q", bind=[("shop", "order.*"), ("shop", "refund.*")])
    async def handle(message: hopmq.Incoming) -> None:
        got.append((message.exchange, message.routing_key))
        if len(got) == 2:
            app.stop()

    app.include(router)

    async def send(channel: hopmq.Channel) -> None:
        await channel.publish("shop", "order.new", b"")
        await channel.publish("shop", "refund.new", b"")

    world.run(app, send)
    assert got == [("shop", "order.new"), ("shop", "refund.new")]


def test_a_mistake_in_a_handler_names_the_argument(world: Any) -> None:
    async def no_annotation(order) -> None: ...

    async def two_bodies(order: dict, other: dict) -> None: ...

    async def no_body(order: complex) -> None: ...

    async def no_list(order: dict) -> None: ...

    for function, settings, text in [
        (no_annotation, {}, "no_annotation: `order` has no annotation"),
        (two_bodies, {}, "two_bodies: `other` would be a second body"),
        (no_body, {}, "no_body: `order`: a body can't be read as"),
        (no_list, {"batch": 10}, "no_list: a handler of batches takes a list"),
    ]:
        app = hopmq.App(world.uri)
        app.consumer("q", **settings)(function)
        with pytest.raises(TypeError, match=text):
            world.until_done(app.run)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"retry": "often"}, "`retry` must be hopmq.Retry, not str"),
        ({"bind": "shop"}, "`bind` must be"),
        ({"speed": 1}, "a queue has no setting `speed`"),
        ({"concurrency": "two"}, "`concurrency` must be an int of at least 1, not str"),
        ({"existing": "maybe"}, '`existing` must be "refuse", "adopt" or "require"'),
        ({"retry": hopmq.Retry(2, backoff="soon")}, "a time must be like"),
    ],
)
def test_a_mistake_in_a_setting_names_it(world: Any, settings: Any, text: str) -> None:
    app = hopmq.App(world.uri)

    async def handle(body: bytes) -> None: ...

    async def main() -> None:
        app.consumer("q", **settings)(handle)
        await app.run()

    with pytest.raises((TypeError, ValueError), match=text):
        world.until_done(main)
