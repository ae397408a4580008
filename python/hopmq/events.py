"""The events of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import timedelta

    from hopmq.errors import Error

Kind = Literal[
    "blocked",
    "unblocked",
    "flow",
    "channel-closed",
    "lost",
    "connecting",
    "connected",
    "retrying",
    "not-restored",
    "waiting",
    "restored",
    "recovered",
    "gave-up",
    "closed",
    "other",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a connection. Fields that a kind does not have are `None`."""

    kind: Kind
    reason: str | None = None
    """`blocked`: the broker's words, such as "low on memory"."""
    channel: int | None = None
    """`flow`, `channel-closed`: the number of the channel."""
    active: bool | None = None
    """`flow`: whether publishing goes on."""
    error: Error | None = None
    """What went wrong, for all kinds of failures."""
    attempt: int | None = None
    """`connecting`, `retrying`, `gave-up`: the number of attempts to reconnect."""
    host: str | None = None
    """`connecting`, `connected`: the broker's host and port."""
    delay: timedelta | None = None
    """`retrying`: the time until the next attempt."""
    entity: str | None = None
    """`not-restored`, `waiting`, `restored`: what it is about, such as `queue "orders"`."""
    waiting: int | None = None
    """`restored`: how many more entities wait to be restored."""
    replayed: dict[str, int] | None = None
    """`recovered`: how many exchanges, queues, bindings, channels, consumers and publishes were restored."""
    outage: timedelta | None = None
    """`recovered`: how long there was no link."""
