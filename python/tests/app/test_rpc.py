"""Calls of services."""

import dataclasses
from typing import Any

import anyio
import pytest

import hopmq


@dataclasses.dataclass
class Query:
    pizza: str


@dataclasses.dataclass
class Quote:
    price: int


def calling(world: Any, app: hopmq.App, call: Any) -> Any:
    """Return what a call yields while the app runs."""

    async def main() -> None:
        with anyio.fail_after(20):
            async with app.running(world.uri), hopmq.connect(world.uri) as connection:
                client = await hopmq.rpc.Client.open(connection)
                results.append(await call(client))

    results: list[Any] = []
    world.until_done(main)
    return results[0]


def priced(**settings: Any) -> hopmq.App:
    app = hopmq.App()

    @app.rpc("price", **settings)
    async def price(query: Query) -> Quote:
        if query.pizza == "none":
            raise hopmq.CallFailed({"reason": "unknown"})
        if query.pizza == "burnt":
            message = "the oven is on fire"
            raise OSError(message)
        return Quote(9)

    return app


def test_a_call_returns_the_result_as_the_type_that_was_asked_for(world: Any) -> None:
    quote = calling(world, priced(), lambda client: client.call("price", Query("margherita"), returns=Quote))
    assert quote == Quote(9)
    assert calling(world, priced(), lambda client: client.call("price", Query("x"))) == {"price": 9}


def test_an_error_that_the_method_returns_is_a_value_at_the_caller(world: Any) -> None:
    with pytest.raises(hopmq.CallFailed) as caught:
        calling(world, priced(), lambda client: client.call("price", Query("none")))
    assert caught.value.value == {"reason": "unknown"}


def test_an_exception_is_a_fault_at_the_caller(world: Any) -> None:
    with pytest.raises(hopmq.Fault) as caught:
        calling(world, priced(), lambda client: client.call("price", Query("burnt")))
    assert (caught.value.error_class, caught.value.text) == ("OSError", "the oven is on fire")


def test_arguments_that_can_not_be_read_are_a_fault(world: Any) -> None:
    with pytest.raises(hopmq.Fault, match="pizza is missing") as caught:
        calling(world, priced(), lambda client: client.call("price", {}))
    assert caught.value.error_class == "decode"


def test_a_service_without_a_server_is_told_at_once(world: Any) -> None:
    with pytest.raises(hopmq.NoServer, match="no server consumes from 'nobody'"):
        calling(world, priced(), lambda client: client.call("nobody"))


def test_a_call_that_gets_no_reply_in_time_ends(world: Any) -> None:
    app = hopmq.App(drain_timeout=0)

    @app.rpc("slow")
    async def slow() -> None:
        await anyio.sleep_forever()

    async def call(client: hopmq.rpc.Client) -> None:
        with pytest.raises(hopmq.Timeout, match="no reply within"):
            await client.call("slow", timeout="50ms")

    calling(world, app, call)


def test_a_service_has_methods(world: Any) -> None:
    app = hopmq.App()

    @app.rpc("math", method="double")
    async def double(number: int) -> int:
        return 2 * number

    @app.rpc("math", method="greet")
    async def greet(name: str) -> str:
        return f"hello {name}"

    async def call(client: hopmq.rpc.Client) -> None:
        assert await client.call("math", 4, method="double", returns=int) == 8
        assert await client.call("math", "ann", method="greet", returns=str) == "hello ann"
        with pytest.raises(hopmq.Fault, match="no method 'half'; it has double, greet"):
            await client.call("math", 4, method="half")

    calling(world, app, call)


def test_many_calls_are_in_flight_at_once(world: Any) -> None:
    app = hopmq.App()

    @app.rpc("echo")
    async def echo(number: int) -> int:
        await anyio.sleep(0.001)
        return number

    async def call(client: hopmq.rpc.Client) -> list[int]:
        results = [0] * 200

        async def one(number: int) -> None:
            results[number] = await client.call("echo", number, returns=int)

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
        return results

    assert calling(world, app, call) == list(range(200))


def test_a_handler_calls_on_the_connection_of_its_app(world: Any) -> None:
    app, got = priced(), []

    @app.consumer("q")
    async def handle(query: Query, app: hopmq.App) -> None:
        got.append(await app.call("price", query, returns=Quote))
        app.stop()

    async def send(channel: hopmq.Channel) -> None:
        await channel.publish("", "q", Query("margherita"))

    world.run(app, send)
    assert got == [Quote(9)]


def test_a_result_that_no_body_can_hold_is_a_fault(world: Any) -> None:
    app = hopmq.App()

    @app.rpc("odd")
    async def odd() -> object:
        return object()

    with pytest.raises(hopmq.Fault, match="can't write the result") as caught:
        calling(world, app, lambda client: client.call("odd"))
    assert caught.value.error_class == "encode"
