"""What the tests share: a broker of this process, and a runner for each event loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from hopmq._hopmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LIMIT = 60
"""Seconds after which a test that hangs fails."""


@pytest.fixture
def broker() -> Broker:
    """Return a broker that behaves as RabbitMQ."""
    return Broker()


@pytest.fixture
def uri(broker: Broker) -> str:
    """Return the address of the broker."""
    return broker.uri


class Loop:
    """One kind of event loop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, main: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        """Run a coroutine function, for a limited time."""
        if self.name == "trio":

            async def within() -> Any:
                with trio.fail_after(LIMIT):
                    return await main(*arguments)

            return trio.run(within)

        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await main(*arguments)

        if self.name == "uvloop":
            import uvloop

            return uvloop.run(limited())
        return asyncio.run(limited())

    async def sleep(self, seconds: float) -> None:
        """Let other tasks run for a time."""
        await (trio.sleep(seconds) if self.name == "trio" else asyncio.sleep(seconds))


KINDS = ["asyncio", "trio"] if sys.platform == "win32" else ["asyncio", "uvloop", "trio"]


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Loop:
    """Return each kind of event loop in turn."""
    return Loop(request.param)
