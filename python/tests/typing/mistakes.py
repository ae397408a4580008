"""Mistakes that the type checkers must find: each line that has one says so, and one that is not found is an error."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import hopmq


async def mistakes(channel: hopmq.Channel, queue: hopmq.Queue) -> None:
    """Each call is wrong in one argument."""
    hopmq.connect(heartbeat=[1])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    hopmq.connect(hartbeat=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    hopmq.Recovery(on_failure="give up")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await queue.publish(b"", persistent="yes")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await queue.publish(b"", delivery=2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await channel.queue("q", overflow="drop")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await channel.publisher().publish(1, b"")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    channel.publish(1, "key", b"")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
