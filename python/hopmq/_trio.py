"""How operations of the native module wait in trio.

Owns one port a run of trio, and the system task that watches it. In come suspensions; out go tokens. It must never be
imported where trio is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from hopmq._hopmq import Port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

_port: trio.lowlevel.RunVar[Port] = trio.lowlevel.RunVar("hopmq_port")


class Token:
    """What a task of trio awaits, once."""

    __slots__ = ("_set", "_task")

    def __init__(self) -> None:
        """Make a token that is not set."""
        self._set = False
        self._task: trio.lowlevel.Task | None = None

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._set

    def set_result(self, _result: None) -> None:
        """Let the task that waits go on."""
        self._set = True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until the token is set; a cancelled task waits no longer."""
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._set:
            return

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._set, self._task = True, None
            return trio.lowlevel.Abort.SUCCEEDED

        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


def suspend() -> tuple[Port, Awaitable[None]] | None:
    """Return the port of this run of trio and a new token; `None` if trio does not run."""
    try:
        port = _port.get()
    except LookupError:
        port = Port()
        _port.set(port)
        trio.lowlevel.spawn_system_task(_watch, port, name="hopmq")
    except RuntimeError:
        return None
    return port, Token()


def breathe() -> Awaitable[None]:
    """Let the other tasks have a turn."""
    return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller awaits it


async def _watch(port: Port) -> None:
    descriptor = port.fileno()
    if descriptor is None:  # pragma: no cover - a pipe has one
        message = "trio needs a descriptor to watch"
        raise RuntimeError(message)
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        port.drain()
