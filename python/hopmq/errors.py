"""The exceptions of the package: one tree, whose root is `Error`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hopmq._hopmq import Message


class Error(Exception):
    """What the client, the network or the broker could not do.

    `kind` is the name of the kind of failure; `code` is the broker's reply code, such as 404, if it sent one.
    """

    kind: str
    code: int | None

    def __init__(self, message: str, kind: str = "", code: int | None = None) -> None:
        """Make an error with the broker's reply code, if it has one."""
        super().__init__(message)
        self.kind = kind or type(self).__name__
        self.code = code


class ConfigError(Error):
    """A setting or an address is invalid. Nothing was sent."""


class UsageError(Error):
    """A call that can't be right, such as a second ack. Nothing was sent, and all handles stay usable."""


class ClosedError(Error):
    """The channel, connection or consumer was closed by this program."""


class ConnectionClosed(Error):
    """The connection has ended: the broker closed it, or the link was lost and not restored."""


class AuthenticationError(ConnectionClosed):
    """The broker refused the credentials."""


class LinkError(ConnectionClosed, OSError):
    """The network failed: a refused or lost connection, TLS, a WebSocket, missing heartbeats."""


class ProtocolError(ConnectionClosed):
    """The peer does not keep to AMQP 0-9-1."""


class ChannelClosed(Error):
    """The broker refused a request and closed the channel: `Channel.reopen` replaces it."""


class NotFound(ChannelClosed):
    """404: there is no such queue, exchange or virtual host."""


class PreconditionFailed(ChannelClosed):
    """406: it exists with other settings, or an argument is not allowed."""


class AccessRefused(ChannelClosed):
    """403: the user may not do this."""


class ResourceLocked(ChannelClosed):
    """405: the queue is exclusive to another connection."""


class Nacked(Error):
    """The broker could not take the message."""


class Returned(Error):
    """No queue took the mandatory message, which is `message`."""

    message: Message

    def __init__(self, message: str, kind: str, code: int | None, returned: Message) -> None:
        """Make an error with the message that the broker returned."""
        super().__init__(message, kind, code)
        self.message = returned


class ConsumerCancelled(Error):
    """The broker ended the consumer, for example because its queue was deleted."""


class Timeout(Error, TimeoutError):
    """It was not done in time."""


class OutcomeUnknown(Error):
    """The link was lost before the broker's answer: it may or may not have been done."""


class Recovering(Error):
    """There is no link at the moment, and `Recovery.publishing` is "fail"."""


class PublishManyError(Error):
    """Some messages of a batch were not confirmed: `failed` has their numbers and exceptions, `sent` how many went."""

    sent: int
    failed: list[tuple[int, Error]]

    def __init__(self, message: str, sent: int, failed: list[tuple[int, Error]]) -> None:
        """Make an error with those that failed."""
        super().__init__(message, "PublishMany", failed[0][1].code if failed else None)
        self.sent = sent
        self.failed = failed


_KINDS: dict[str, type[Error]] = {
    "Config": ConfigError,
    "Io": LinkError,
    "Tls": LinkError,
    "WebSocket": LinkError,
    "Heartbeat": LinkError,
    "Authentication": AuthenticationError,
    "ConnectionClosed": ConnectionClosed,
    "ChannelClosed": ChannelClosed,
    "Closed": ClosedError,
    "ConsumerCancelled": ConsumerCancelled,
    "Protocol": ProtocolError,
    "Usage": UsageError,
    "Timeout": Timeout,
    "Nacked": Nacked,
    "OutcomeUnknown": OutcomeUnknown,
    "Recovering": Recovering,
}
_CODES: dict[int, type[ChannelClosed]] = {
    403: AccessRefused,
    404: NotFound,
    405: ResourceLocked,
    406: PreconditionFailed,
}


def of_core(kind: str, code: int | None, text: str, returned: Message | None) -> Error:
    """Make the exception of an error of the native module."""
    if returned is not None:
        return Returned(text, kind, code, returned)
    cls = _KINDS.get(kind, Error)
    if cls is ChannelClosed and code is not None:
        cls = _CODES.get(code, ChannelClosed)
    return cls(text, kind, code)


def of_many(text: str, sent: int, failed: list[tuple[int, Error]]) -> PublishManyError:
    """Make the exception of a batch of which some messages failed."""
    return PublishManyError(text, sent, failed)


def group_of(errors: list[Error], more: int) -> ExceptionGroup[Error]:
    """Make the group of what failed in a publisher's window."""
    text = f"{len(errors) + more} messages of this publisher were not confirmed"
    if more:
        text += f" (the first {len(errors)} are here)"
    return ExceptionGroup(text, errors)


class AppError(Error):
    """An app did not start, or ended: `kind` is "Differs", "Missing", "Invalid" or "Client"."""


class CallError(Error):
    """A call has no result."""


class NoServer(CallError):
    """No server consumes from the queue of the service. The call was not carried out."""


class Fault(CallError):
    """The server could not carry out the call: `error_class` says of which class its error is, `text` which."""

    def __init__(self, error_class: str, text: str) -> None:
        """Make the fault of a reply."""
        super().__init__(f"the server could not carry out the call: {error_class}: {text}", "Fault")
        self.error_class = error_class
        self.text = text


class CallFailed(CallError):
    """The error that a method returned, as a value: raise it in a method, catch it at the caller."""

    def __init__(self, value: object) -> None:
        """Make an error of any value that JSON can hold."""
        super().__init__(f"the method failed: {value!r}", "CallFailed")
        self.value = value


class DecodeError(CallError):
    """The reply can't be read: client and server declare the method differently."""


_WORDS = (
    (r'with `\.exchange\(Exchange::topic\("([^"]*)"\)\)`', r'with `app.exchange("\1")`'),
    (r"with `\.existing\(Existing::Adopt\)`", 'with `existing="adopt"`'),
    (r"`Existing::Require`", '`existing="require"`'),
    (r"`\.(concurrency)\((\d+)\)`", r"`\1=\2`"),
    (r"`\.(\w+)\(…\)`", r"`\1=…`"),
    (r"`\.quorum\(\)`", "`quorum=True`"),
)


def of_app(kind: str, text: str, cause: Error | None) -> AppError:
    """Make the exception of an app, in the words of Python."""
    for words, replacement in _WORDS:
        text = re.sub(words, replacement, text)
    error = AppError(text, kind, cause.code if cause is not None else None)
    error.__cause__ = cause
    return error


def of_call(kind: str, text: str) -> Error:
    """Make the exception of a call without a reply."""
    if kind == "Timeout":
        return Timeout(text, kind)
    if kind == "OutcomeUnknown":
        return OutcomeUnknown(text, kind)
    return (NoServer if kind == "NoServer" else DecodeError)(text, kind)
