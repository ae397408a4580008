"""What long programs leave behind: no objects, no descriptors, no cycles that the collector can't find."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import weakref
from pathlib import Path

import pytest

import hopmq
import hopmq.blocking

FILES = Path("/proc/self/fd")


def objects():
    gc.collect()
    return len(gc.get_objects())


def blocks():
    gc.collect()
    return sys.getallocatedblocks()


def test_a_hundred_thousand_operations_leave_no_objects(loop, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            publisher = queue.publisher(window=500)

            async def operations(count):
                async with queue.consume(prefetch=1000) as messages:
                    for _ in range(count // 4 // 500):
                        for _ in range(500):
                            await publisher.publish(b"x", headers={"a": [1, {"b": "c"}]})
                        for _ in range(500):
                            await queue.send("text")
                        for _ in range(1000):
                            message = await anext(messages)
                            assert not message.headers or message.headers["a"][0] == 1
                            message.ack()

            await operations(10_000)
            before, memory = objects(), blocks()
            await operations(100_000)
            assert objects() - before < 100
            assert blocks() - memory < 2000

    loop.run(main)


def test_waits_that_time_out_leave_nothing(uri):
    """A consumer of a quiet queue keeps nothing of those that waited in vain."""

    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            async with queue.consume() as messages:

                async def vain(count):
                    for _ in range(count):
                        with pytest.raises(TimeoutError):
                            async with asyncio.timeout(0.0001):
                                await anext(messages)

                def vain_in_threads(count):
                    for _ in range(count):
                        with pytest.raises(TimeoutError):
                            messages.next_blocking(0.0001)

                await vain(50)
                vain_in_threads(50)
                before = blocks()
                await vain(1000)
                vain_in_threads(1000)
                assert blocks() - before < 1000

    asyncio.run(main())


@pytest.mark.skipif(not FILES.is_dir(), reason="this system has no list of descriptors")
def test_loops_and_connections_leave_no_descriptors(loop, uri):
    async def once():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publish(b"x")
            await queue.get(no_ack=True)

    def descriptors():
        gc.collect()
        return len(list(FILES.iterdir()))

    for _ in range(3):
        loop.run(once)
    before = descriptors()
    for _ in range(20):
        loop.run(once)
    assert descriptors() <= before + 2


def test_handles_that_are_dropped_are_closed(broker, uri):
    """Messages of a consumer that nobody holds any more go back to the queue."""
    connection = hopmq.blocking.connect(uri)
    channel = connection.channel()
    queue = channel.queue("q")
    queue.publish(b"x")
    messages = queue.consume()
    assert messages.next(10).body == b"x"
    del messages, queue, channel
    again = connection.channel()
    with again.queue("q").consume() as messages:
        message = messages.next(10)
        assert message.redelivered
        message.ack()
    connection.close()
    assert broker.queues() == {"q": (0, 0)}


def test_the_collector_finds_cycles_through_operations(uri):
    """A task and the operation that it awaits refer to each other: a loop that is closed frees both."""

    class Marker:
        pass

    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            messages = await queue.consume()
            marker = Marker()
            known = weakref.ref(marker)
            operation = anext(messages).__await__()
            token = next(operation)
            token.add_done_callback(functools.partial(id, marker))
            marker.operation = operation
            del operation, token, marker
            gc.collect()
            assert known() is None
            await queue.publish(b"x")
            (await anext(messages)).ack()

    asyncio.run(main())


def test_a_closed_loop_is_freed(uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel():
            return weakref.ref(asyncio.get_running_loop())

    known = asyncio.run(main())
    gc.collect()
    assert known() is None
