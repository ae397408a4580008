"""An app beside a web application, in the lifespan of ASGI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

import hopmq


def test_an_app_runs_in_the_lifespan_of_a_web_application(world: Any) -> None:
    app, got, done = hopmq.App(world.uri), [], anyio.Event()

    @app.consumer("orders")
    async def bill(order: dict) -> None:
        got.append(order)
        done.set()

    @app.rpc("price")
    async def price(pizza: str) -> int:
        return len(pizza)

    # What FastAPI and Starlette take as `lifespan`.
    @asynccontextmanager
    async def lifespan(_web: object) -> AsyncIterator[dict[str, Any]]:
        async with app.running():
            yield {"hopmq": app}

    async def main() -> None:
        with anyio.fail_after(20):
            async with lifespan(None) as state:
                # A route of the web application.
                assert await state["hopmq"].call("price", "margherita", returns=int) == 10
                channel = await app.connection.channel()
                await channel.publish("", "orders", {"id": 1})
                await done.wait()

    world.until_done(main)
    assert got == [{"id": 1}]
    assert app.health() == (False, {})


def test_an_app_that_fails_while_the_block_goes_on_raises_at_its_end(world: Any) -> None:
    app, errors = hopmq.App(world.uri), []

    @app.consumer("orders")
    async def bill(order: dict) -> None: ...

    async def main() -> None:
        with anyio.fail_after(20):
            try:
                async with app.running() as run:
                    await app.connection.close()
                    await run
            except hopmq.Error as error:
                errors.append(error)

    world.until_done(main)
    assert len(errors) == 1
