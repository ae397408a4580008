"""Tasks beside each other, in asyncio or trio.

Owns the tasks of one block: those that go on at its end are cancelled. In come coroutines and operations; out go their
ends. It must never know what they do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from typing import Self


class Task:
    """One task: its result or exception is kept for those who wait."""

    def __init__(self, event: Any) -> None:
        """Begin without a result."""
        self._event = event
        self._error: BaseException | None = None

    async def carry(self, work: Awaitable[Any]) -> None:
        """Await the work."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - those who wait get it
            self._error = error
        finally:
            self._event.set()

    async def wait(self) -> None:
        """Wait for its end, and raise its exception."""
        await self._event.wait()
        if self._error is not None:
            raise self._error

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait for its end, and raise its exception."""
        return self.wait().__await__()

    async def either(self, other: Awaitable[Any]) -> None:
        """Wait for another operation, or for the end of this task if that is earlier."""
        async with Tasks() as tasks:
            done = tasks.event()

            async def first() -> None:
                await other
                done.set()

            async def second() -> None:
                await self._event.wait()
                done.set()

            tasks.start(first())
            tasks.start(second())
            await done.wait()
        if self._error is not None:
            raise self._error


class Tasks:
    """The tasks of one block."""

    def __init__(self) -> None:
        """Begin without tasks."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._nursery: Any = None
        self._manager: Any = None
        self._is_asyncio = asyncio._get_running_loop() is not None  # noqa: SLF001 - None in trio

    def event(self) -> Any:
        """Return an event of the running library."""
        if self._is_asyncio:
            return asyncio.Event()
        import trio

        return trio.Event()

    def start(self, work: Awaitable[Any]) -> Task:
        """Start a task."""
        task = Task(self.event())
        if self._is_asyncio:
            running = asyncio.get_running_loop().create_task(task.carry(work))
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)
        else:
            self._nursery.start_soon(task.carry, work)
        return task

    async def __aenter__(self) -> Self:
        """Begin the block."""
        if not self._is_asyncio:
            import trio

            self._manager = trio.open_nursery()
            self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Cancel the tasks that go on, and wait until they have ended."""
        if self._is_asyncio:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            return
        self._nursery.cancel_scope.cancel()
        # An error of the block goes on by itself: the nursery would wrap it.
        await self._manager.__aexit__(None, None, None)
