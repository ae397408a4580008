"""Plain functions on threads of the running loop's library.

Owns nothing. In come functions; out go their results. It must never know a handler.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def run(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Call a function on a thread, and return its result."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - None in trio
        return await asyncio.to_thread(function, *arguments, **named)
    import trio

    return await trio.to_thread.run_sync(partial(function, *arguments, **named))
