"""What tests of apps share: a broker in this process, and both event loop libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hopmq
from hopmq._hopmq import Broker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONGEST = 30
"""After how many seconds a test has hung."""


class World:
    """A broker, and the way to run an app on it."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.broker = Broker()
        self.uri = self.broker.uri

    def run(self, app: hopmq.App, send: Callable[[hopmq.Channel], Awaitable[Any]]) -> None:
        """Run an app until a handler stops it. `send` publishes when its queues are declared."""

        async def main() -> None:
            with anyio.fail_after(LONGEST):
                async with app.running(self.uri) as run, hopmq.connect(self.uri) as c, c.channel() as channel:
                    await send(channel)
                    await run

        self.until_done(main)

    def until_done(self, main: Callable[[], Awaitable[Any]]) -> None:
        """Run a coroutine function in the library of the test."""
        anyio.run(main, backend=self.library)

    def dead(self, queue: str = "q.dlq") -> list[tuple[str, str]]:
        """Return the classes and texts of the errors of dead letters."""
        headers = [message.headers for message in self.broker.ready(queue)]
        return [(each["x-hopmq-error-class"], each["x-hopmq-error"]) for each in headers]


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> World:
    """A new broker, in asyncio and in trio."""
    return World(request.param)
