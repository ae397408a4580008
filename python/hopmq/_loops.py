"""How operations of the native module wait in the event loop that awaits them.

Owns one port a loop, through which the driver's thread wakes it. In come suspensions; out go tokens, which the task
awaits and the port sets. It must never know an operation.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import TYPE_CHECKING

from hopmq._hopmq import Port

if TYPE_CHECKING:
    from collections.abc import Awaitable

# A port must not hold its loop, or neither would ever be freed.
_ports: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Port] = weakref.WeakKeyDictionary()


def suspend() -> tuple[Port, Awaitable[None]]:
    """Return the port of the running loop, and a new token to await in it."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - the documented form raises, which costs more here
    if loop is None:
        return _suspend_elsewhere()
    try:
        port = _ports[loop]
    except KeyError:
        port = _ports[loop] = _watch(loop)
    return port, loop.create_future()


def breathe() -> Awaitable[None]:
    """Let the other tasks of the running loop have a turn."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001
        return asyncio.sleep(0)
    from hopmq import _trio

    return _trio.breathe()


def _watch(loop: asyncio.AbstractEventLoop) -> Port:
    port = Port()
    descriptor = port.fileno()
    if descriptor is not None:
        try:
            loop.add_reader(descriptor, port.drain)
        except NotImplementedError:
            pass
        else:
            return port
    # Windows' proactor loop watches no pipes.
    known = weakref.ref(loop)

    def tell() -> None:
        loop = known()
        port = None if loop is None else _ports.get(loop)
        if loop is not None and port is not None:
            loop.call_soon_threadsafe(port.drain)

    return Port(tell)


def _suspend_elsewhere() -> tuple[Port, Awaitable[None]]:
    if "trio" in sys.modules:
        from hopmq import _trio

        suspended = _trio.suspend()
        if suspended is not None:
            return suspended
    message = (
        "no event loop is running here: await this in a coroutine of asyncio or trio, "
        "or use hopmq.blocking in a program without one"
    )
    raise RuntimeError(message)
