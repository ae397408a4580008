"""The settings of queues: attempts, rates, breakers and batches.

Owns the checks of these settings. In come numbers and times; out go plain tuples for the native module. It must never
know a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hopmq._types import Seconds

_RANGE = re.compile(r"^\s*(\S+?)\s*\.\.\s*(\S+?)\s*$")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a message is tried, and how long it waits between attempts.

    `Retry(5, backoff="1s..10m")` makes five attempts, and waits 1 s, 5 s, 25 s and 125 s: `factor` times as long each
    time, at most ten minutes. `backoff="10s"` waits the same each time, `backoff=["1s", "1m"]` waits for these times.
    Waits of a second or more happen in queues (`<queue>.retry.<milliseconds>`), shorter ones in the worker.
    """

    attempts: int | None = None
    """How often the handler is called for one message, the first time included: 4, or one more than listed waits."""
    backoff: str | Seconds | Sequence[Seconds] = "1s..5m"
    """The waits: "first..longest", one time, or a list."""
    factor: int = 5
    """By how much a wait is longer than the one before."""
    jitter: int = 0
    """Up to how many percent of a wait are left out at random, so that failures do not come back together."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.attempts is not None and not (isinstance(self.attempts, int) and self.attempts >= 1):
            message = f"`attempts` must be an int of at least 1, not {self.attempts!r}"
            raise ValueError(message)
        if not 0 <= self.jitter <= 100:  # noqa: PLR2004 - percent
            message = f"`jitter` must be from 0 to 100 percent, not {self.jitter!r}"
            raise ValueError(message)

    def parts(self) -> tuple[int, list[Any] | None, tuple[Any, int, Any] | None, int]:
        """Return what the native module reads."""
        backoff = self.backoff
        if isinstance(backoff, (list, tuple)):
            attempts = len(backoff) + 1 if self.attempts is None else self.attempts
            return (attempts, list(backoff), None, self.jitter)
        attempts = 4 if self.attempts is None else self.attempts
        if isinstance(backoff, str):
            match = _RANGE.match(backoff)
            if match:
                return (attempts, None, (match[1], self.factor, match[2]), self.jitter)
        return (attempts, None, (backoff, 1, backoff), self.jitter)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many messages in a time: `Rate(100, per="1s")`."""

    messages: int
    per: Seconds = 1
    burst: int | None = None
    """How many may be taken at once after a pause: `messages` unless set."""

    def parts(self) -> tuple[int, Any, int | None]:
        """Return what the native module reads."""
        return (self.messages, self.per, self.burst)


@dataclass(frozen=True, slots=True)
class Breaker:
    """Stops taking messages after failures, and probes with single ones: `Breaker(5, of=10, pause="30s")`."""

    failures: int
    of: int | None = None
    """Among how many messages; `failures` unless set."""
    pause: Seconds | None = None
    """How long no message is taken: 30 seconds unless set."""
    classes: Sequence[str] = ()
    """The classes of errors that count; all that are tried again unless set."""

    def parts(self) -> tuple[int, int | None, Any, list[str]]:
        """Return what the native module reads."""
        return (self.failures, self.of, self.pause, list(self.classes))


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is handed out: at so many messages or bytes, or after a wait."""

    messages: int
    bytes: int | None = None
    """At how many bytes of bodies: 1 MiB unless set."""
    within: Seconds | None = None
    """After which time it is handed out although it is not full: 50 ms unless set."""

    def parts(self) -> tuple[int, int | None, Any]:
        """Return what the native module reads."""
        return (self.messages, self.bytes, self.within)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a queue as the native module reads them."""
    read = {name: value for name, value in given.items() if value is not None}
    retry = read.get("retry")
    if isinstance(retry, int) and not isinstance(retry, bool):
        retry = Retry(retry)
    if retry is not None:
        read["retry"] = _parts("retry", retry, Retry)
    classes = read.get("retry_class")
    if classes is not None:
        read["retry_class"] = {_name(key): _parts("retry_class", each, Retry) for key, each in classes.items()}
    batch = read.get("batch")
    if isinstance(batch, int) and not isinstance(batch, bool):
        batch = BatchLimits(batch)
    if batch is not None:
        read["batch"] = _parts("batch", batch, BatchLimits)
    for name, kind in (("rate_limit", Rate), ("breaker", Breaker)):
        if name in read:
            read[name] = _parts(name, read[name], kind)
    if "bind" in read:
        read["bind"] = _binds(read["bind"])
    return read


def _name(key: str | type[BaseException]) -> str:
    return key if isinstance(key, str) else key.__name__


def _parts(name: str, value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        message = f"`{name}` must be hopmq.{kind.__name__}, not {type(value).__name__}"
        raise TypeError(message)
    return value.parts()


def _binds(value: Any) -> list[tuple[str, str, Any]]:
    pairs = [value] if isinstance(value, tuple) and value and isinstance(value[0], str) else value
    binds = []
    for pair in pairs:
        if not isinstance(pair, tuple) or not 2 <= len(pair) <= 3:  # noqa: PLR2004 - a pair, and arguments
            message = f"`bind` must be (exchange, routing_key), or a list of such pairs, not {value!r}"
            raise TypeError(message)
        binds.append((pair[0], pair[1], pair[2] if len(pair) > 2 else None))  # noqa: PLR2004
    return binds
