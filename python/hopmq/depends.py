"""Markers in the annotations of handlers: where an argument comes from, and where a result goes.

Owns the words. They are read once, when a handler is compiled. It must never know a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Header:
    """The value of a header: `Annotated[str, Header("x-user")]`.

    A message without it goes to the dead letters, unless the argument has a default or its type allows `None`; so does
    one whose header has another type.
    """

    name: str


class Depends:
    """What a function returns or yields: `Annotated[Db, Depends(db)]`, or `db: Db = Depends(db)`.

    The function may be async, and takes arguments as handlers do. It is called once a message, unless `cached` is
    false. What is behind the `yield` of a generator runs when the handler has ended, before the message is settled: if
    it fails, the message is tried again. Plain functions run on the loop, and must not block.
    """

    __slots__ = ("cached", "function")

    def __init__(self, function: Callable[..., Any], *, cached: bool = True) -> None:
        """Name the function."""
        if not callable(function):
            message = f"Depends needs a function, not {type(function).__name__}"
            raise TypeError(message)
        self.function = function
        self.cached = cached


@dataclass(frozen=True, slots=True)
class State:
    """What the lifespan of the app yields, or one of its keys or attributes: `Annotated[Pool, State("pool")]`."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptNumber:
    """Marks the attempt, beginning with 1."""


Attempt = Annotated[int, AttemptNumber()]
"""The attempt that this is, beginning with 1: `attempt: Attempt`."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Where a result is published, confirmed before its message is acked: `-> Annotated[Invoice, Publish("invoices")]`.

    With one name it is a queue; with `exchange`, a routing key of the exchange. `None` is not published.
    """

    routing_key: str
    exchange: str = ""
    persistent: bool = True
