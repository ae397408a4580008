"""The end of a handler: its result or exception as the outcome of its message.

Owns the log lines of failures. In come results and exceptions; out go verdicts, replies and publishes. It must never
know how a handler is called.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from hopmq import codec
from hopmq.errors import CallFailed
from hopmq.outcomes import Outcome, Reject, verdict

if TYPE_CHECKING:
    from hopmq._hopmq import Incoming, IncomingBatch
    from hopmq.depends import Publish

log = logging.getLogger("hopmq.app")


def failed(name: str, job: Incoming, error: Exception) -> None:
    """Tell the outcome of an exception."""
    if not isinstance(error, Outcome):
        log.warning("%s failed at attempt %d: %r", name, job.attempt, error, exc_info=error)
    elif isinstance(error, Reject):
        log.warning("%s rejects a message: %s", name, error.text)
    job._fail(*verdict(error))  # noqa: SLF001


def done(name: str, job: Incoming, result: object) -> None:
    """Tell the outcome of a result other than `None`."""
    if isinstance(result, Outcome):
        failed(name, job, result)
        return
    job._ack()  # noqa: SLF001


def fault(job: Incoming, error: Exception) -> None:
    """Answer a call with why it has no result."""
    if isinstance(error, CallFailed):
        body, content_type = encode(error.value)
        job._reply(body, content_type, "failed")  # noqa: SLF001
        return
    if isinstance(error, Outcome):
        kind, text = error.error_class, error.text
        if kind in ("content-type", "invalid", "header", "decode"):
            kind = "decode"
    else:
        log.warning("a call of %s failed: %r", job.queue, error, exc_info=error)
        kind, text = type(error).__name__, str(error)
    job._reply(text.encode(), "text/plain; charset=utf-8", kind)  # noqa: SLF001


def reply(job: Incoming, result: object) -> None:
    """Answer a call with its result."""
    try:
        body, content_type = encode(result)
    except (TypeError, ValueError) as error:
        text = f"can't write the result: {error}"
        job._reply(text.encode(), "text/plain; charset=utf-8", "encode")  # noqa: SLF001
        return
    job._reply(body, content_type)  # noqa: SLF001


def encode(value: object) -> tuple[bytes, str | None]:
    """Return the body of an argument or a result of a call. Texts are JSON there, as those of other languages."""
    if isinstance(value, bytes):
        return value, "application/octet-stream"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).encode(), codec.JSON
    return codec.encode(value)


async def publish(job: Incoming, result: object, to: list[Publish]) -> None:
    """Publish a result, confirmed."""
    if result is None or isinstance(result, Outcome):
        return
    for place in to:
        await job.publish(place.exchange, place.routing_key, result, persistent=place.persistent)


def outcome_only(result: object) -> object:
    """Return a result only if it is an outcome: others were published."""
    return result if isinstance(result, Outcome) else None


def batch(name: str, jobs: IncomingBatch, unread: dict[int, Exception], result: object) -> None:
    """Tell the outcomes of a batch: one for all, or a list with one each."""
    for error in unread.values():
        log.warning("%s can't read a message: %s", name, error)
    if isinstance(result, Exception) and not isinstance(result, Outcome):
        log.warning("%s failed with a batch: %r", name, result, exc_info=result)
    outcomes = result if isinstance(result, list) else None
    if not unread and outcomes is None:
        single = result if isinstance(result, Exception) else None
        if single is None:
            jobs._ack()  # noqa: SLF001
        else:
            jobs._fail(*verdict(single))  # noqa: SLF001
        return
    count = len(jobs.messages)
    if outcomes is not None and len(outcomes) != count - len(unread):
        text = f"the batch handler returned {len(outcomes)} outcomes for {count - len(unread)} messages"
        log.warning("%s: %s", name, text)
        from hopmq.outcomes import TryAgain

        result, outcomes = TryAgain(text, error_class="outcomes"), None
    each = []
    rest = iter(outcomes if outcomes is not None else ())
    for index in range(count):
        if index in unread:
            each.append(verdict(unread[index]))
        elif outcomes is not None:
            outcome: object = next(rest)
            each.append(verdict(outcome if isinstance(outcome, Exception) else None))
        else:
            each.append(verdict(result if isinstance(result, Exception) else None))
    jobs._each(each)  # noqa: SLF001
