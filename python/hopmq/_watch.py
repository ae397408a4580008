"""A warning when a handler blocks the event loop.

Owns one thread while an app runs. In come turns of the loop; out go log lines with the place at which the loop stands.
It must never touch the app.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

log = logging.getLogger("hopmq.app")


class Watch:
    """Asks the loop for a turn again and again, and tells where it stands if none comes in time."""

    def __init__(self, limit: float) -> None:
        """Watch the running loop: `limit` is in seconds."""
        self._limit = limit
        self._stopped = threading.Event()
        self._soon: Callable[[Callable[[], Any]], Any]
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - None in trio
            self._soon = asyncio.get_running_loop().call_soon_threadsafe
        else:
            import trio

            self._soon = trio.lowlevel.current_trio_token().run_sync_soon
        self._thread = threading.get_ident()
        self._watcher = threading.Thread(target=self._watch, name="hopmq-watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._watcher.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End the thread, which does not take long."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit / 2):
            turn = threading.Event()
            try:
                self._soon(turn.set)
            except RuntimeError:
                return
            if turn.wait(self._limit):
                continue
            if self._stopped.is_set():
                return
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001
            place = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else "?"
            log.warning(
                "the event loop has had no turn for %.1f s: a handler blocks it. Make it a plain `def`, which runs on "
                "a thread, or await. It stands at:\n%s",
                self._limit,
                place,
            )
            while not turn.wait(self._limit):
                if self._stopped.is_set():
                    return
