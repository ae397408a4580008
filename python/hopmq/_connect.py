"""Connecting: the address, and settings by name."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

from hopmq import _hopmq
from hopmq._opening import Opening

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from hopmq._types import Seconds, Settings

DEFAULT_URI = "amqp://localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What happens when the link to the broker is lost. Times are seconds, a `timedelta`, or a text such as "10m"."""

    first_delay: Seconds = 0.1
    """The wait before the second attempt to reconnect; it doubles from attempt to attempt."""
    longest_delay: Seconds = 5
    """The longest wait between attempts."""
    attempts: int | None = None
    """After how many attempts the connection gives up; never by default."""
    total_time: Seconds | None = None
    """After which time the connection gives up; never by default."""
    refusals: int = 3
    """After how many refused logins in a row the connection gives up."""
    seed: int | None = None
    """Makes the random part of the waits repeatable."""
    topology: bool = True
    """Whether queues, exchanges and bindings that this connection declared are declared again."""
    on_failure: Literal["skip", "retry", "fail"] = "retry"
    """What to do about an entity that can't be restored."""
    retry_attempts: int = 30
    """How often `on_failure="retry"` tries."""
    retry_delay: Seconds = 1
    """How long `on_failure="retry"` waits between tries."""
    publishing: Literal["wait", "fail"] = "wait"
    """Whether publishes wait for the next link, or fail with `Recovering`."""
    unconfirmed: Literal["republish", "fail"] = "republish"
    """Whether unconfirmed messages are published again, or their confirms fail with `OutcomeUnknown`."""
    mark_republished: str | None = None
    """The header that marks messages that were published again."""
    message_ids: bool = False
    """Whether confirmed messages without an id are given one, for consumers that drop duplicates."""
    republish_limit: int = 16 * 1024 * 1024
    """How many bytes of unconfirmed messages are kept for a republish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How `amqps://` is checked. Without settings: the platform's trusted roots, and no client certificate."""

    roots: str | PathLike[str] | None = None
    """A file of trusted certificates, PEM, in place of the platform's."""
    certificate: str | PathLike[str] | None = None
    """The client's certificate, PEM."""
    key: str | PathLike[str] | None = None
    """The key of the client's certificate, PEM."""
    server_name: str | None = None
    """The name that the broker's certificate must have, if it is not the host's."""
    danger_accept_any_certificate: bool = False
    """Accepts everything. Then anybody on the way can read and change the messages."""


def connect(uri: str = DEFAULT_URI, **settings: Unpack[Settings]) -> Opening[_hopmq.Connection]:
    """Connect to a broker: use it with `async with`, or await it.

    The address is `amqp://user:password@host:port/vhost`, or `amqps://`, `amqp+unix://`, `ws://`, `wss://`. All
    settings are in `hopmq.Settings`, with their units and defaults.

    Raises `ConfigError` if the address is invalid, `LinkError` if no host could be reached, `Timeout` after
    `connect_timeout`, and `AuthenticationError` if the broker refuses the credentials.
    """
    if not isinstance(uri, str):
        message = f"`uri` must be a str, not {type(uri).__name__}"
        raise TypeError(message)
    credentials = settings.get("credentials")
    if callable(credentials):
        settings["credentials"] = _ask(credentials)
    return Opening(_hopmq.open(uri, **settings))


def _ask(provider: Callable[[], Any]) -> Callable[[], Any]:
    """Make a function that a thread of the driver can call, of one that may be async."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - None in a thread without a loop

    def ask() -> Any:
        answer = provider()
        if not inspect.isawaitable(answer):
            return answer

        async def awaited() -> Any:
            return await answer

        if loop is not None and loop.is_running():
            return asyncio.run_coroutine_threadsafe(awaited(), loop).result()
        return asyncio.run(awaited())

    return ask
