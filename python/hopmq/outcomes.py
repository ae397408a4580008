"""What handlers say about messages: raised as exceptions or returned.

Owns the words for outcomes. In come reasons; out go the parts of a verdict. It must never know a queue: what an outcome
leads to is the queue's declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from hopmq._types import Seconds


class Outcome(Exception):
    """What must happen with a message: raise it or return it."""

    kind: ClassVar[str]
    default_class: ClassVar[str] = ""

    def __init__(self, text: str = "", *, error_class: str | None = None, after: Seconds | None = None) -> None:
        """Say why, for people, and of which class the failure is."""
        super().__init__(text)
        self.text = text
        self.error_class = self.default_class if error_class is None else error_class
        self.after = after


class TryAgain(Outcome):
    """The message failed and may succeed later: as each other exception, but with a class and a wait of your choice."""

    kind = "retry"
    default_class = "retry"


class Reject(Outcome):
    """The message can't succeed: it goes to the dead letters with this reason."""

    kind = "reject"
    default_class = "reject"


class Park(Outcome):
    """A person must look at the message: it goes to the parked messages with this reason."""

    kind = "park"
    default_class = "park"


class Release(Outcome):
    """The worker can't handle the message now: it goes back to its queue at once."""

    kind = "release"


def verdict(outcome: BaseException | None) -> tuple[str, str, str, Seconds | None]:
    """Return the parts of a verdict: that of an outcome, of any other exception, or an ack for `None`."""
    if outcome is None:
        return ("ack", "", "", None)
    if isinstance(outcome, Outcome):
        return (outcome.kind, outcome.error_class, outcome.text, outcome.after)
    return ("retry", type(outcome).__name__, str(outcome), None)
