"""Waits that are given up, and waits of many tasks on one object: nothing is lost, and no task is forgotten."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
import trio

import hopmq
import hopmq.blocking


async def all_of(loop, *functions):
    """Run async functions at the same time."""
    if loop.name == "trio":
        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)
    else:
        async with asyncio.TaskGroup() as group:
            for function in functions:
                group.create_task(function())


async def give_up(loop, function, turns):
    """Run an async function, and cancel it after some turns of the loop. Return its result, if it had one."""
    result = []

    async def keep():
        result.append(await function())

    if loop.name == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    else:
        task = asyncio.ensure_future(keep())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
    return result


def test_messages_of_cancelled_tasks_are_delivered_again_or_later(loop, broker, uri):
    """Each message is acked once, whatever the cancelled tasks were doing."""

    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"%d" % number for number in range(1500)])
            seen = []
            async with queue.consume(prefetch=2000) as messages:

                async def one():
                    return await anext(messages)

                turns = 0
                while len(seen) < 1500:
                    turns = (turns + 1) % 4
                    for message in await give_up(loop, one, turns):
                        message.ack()
                        seen.append(int(message.body))
            assert sorted(seen) == list(range(1500))

    loop.run(main)
    assert broker.queues() == {"q": (0, 0)}


def test_batches_of_cancelled_tasks_are_not_lost(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"%d" % number for number in range(500)])
            seen = []
            async with queue.consume(prefetch=100) as messages:
                batches = messages.batches(10)

                async def one():
                    return await anext(batches)

                turns = 0
                while len(seen) < 500:
                    turns = (turns + 1) % 4
                    for batch in await give_up(loop, one, turns):
                        batch.ack()
                        seen.extend(int(message.body) for message in batch)
            assert sorted(seen) == list(range(500))

    loop.run(main)
    assert broker.queues() == {"q": (0, 0)}


def test_an_operation_that_is_dropped_with_a_message_gives_it_back(broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"x"] * 3)
            async with queue.consume() as messages:
                (await anext(messages)).ack()
                anext(messages)
                anext(messages).close()
                for _ in range(2):
                    message = await anext(messages)
                    assert message.redelivered
                    message.ack()

    asyncio.run(main())
    assert broker.queues() == {"q": (0, 0)}


@pytest.mark.parametrize("turns", range(5))
def test_a_cancelled_opening_leaves_nothing_open(loop, broker, uri, turns):
    """What the broker did for a cancelled call is undone: its connection, channel, consumer and fetched message."""

    async def main():
        await give_up(loop, lambda: connected(uri), turns)
        async with hopmq.connect(uri, channel_max=4) as connection:
            kept = await connection.channel()
            queue = await kept.queue("q")
            await queue.publish(b"x")
            for _ in range(20):
                for channel in await give_up(loop, lambda: opened(connection), turns):
                    await channel.close()
                # The broker's answer, then its answer to the close of what is not wanted any more.
                for _ in range(2):
                    await kept.queue("q", passive=True)
            for _ in range(5):
                for messages in await give_up(loop, lambda: consuming(queue), turns):
                    await messages.close()
                for message in await give_up(loop, lambda: fetched(queue), turns):
                    if message is not None:
                        message.nack()
            async with queue.consume() as messages:
                (await anext(messages)).ack()

    async def connected(address):
        async with hopmq.connect(address):
            await loop.sleep(10)

    async def opened(connection):
        return await connection.channel()

    async def consuming(queue):
        return await queue.consume()

    async def fetched(queue):
        return await queue.get()

    loop.run(main)
    assert broker.queues() == {"q": (0, 0)}


def test_a_cancelled_publish_is_sent_whole_or_not_at_all(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            publisher = queue.publisher(window=2)
            large = b"x" * 100_000

            async def publish():
                await queue.publish(large)
                return True

            async def window():
                await publisher.publish(large)
                return True

            for turns in range(4):
                for _ in range(10):
                    await give_up(loop, publish, turns)
                    await give_up(loop, window, turns)
            await publisher.flush()
            assert publisher.in_flight == 0
            await queue.publish(b"last")

    loop.run(main)
    bodies = [message.body for message in broker.ready("q")]
    assert bodies[-1] == b"last"
    assert {len(body) for body in bodies[:-1]} <= {100_000}


def test_many_tasks_share_a_publisher(loop, broker, uri):
    """The core wakes one task for a confirm: it must be none that has left."""

    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            await channel.queue("q")
            async with channel.publisher("", "q", window=3) as publisher:

                async def publish():
                    for number in range(100):
                        await publisher.publish(b"%d" % number)
                        assert publisher.in_flight <= 3 + 8

                await all_of(loop, *[publish] * 8, publisher_flush(publisher))
        assert publisher.published == 800

    def publisher_flush(publisher):
        async def flush():
            await publisher.flush()

        return flush

    loop.run(main)
    assert broker.queues() == {"q": (800, 0)}


def test_many_tasks_share_returns_and_events(loop, uri):
    async def main():
        async with hopmq.connect(uri) as connection:
            events = connection.events()
            kinds, bodies = [], []
            async with connection.channel() as channel:
                returns = channel.returns()

                async def take():
                    bodies.append((await anext(returns)).body)

                async def publish():
                    await loop.sleep(0.01)
                    for number in range(5):
                        await channel.send("", "nowhere", b"%d" % number, mandatory=True)

                await all_of(loop, *[take] * 5, publish)
                assert sorted(bodies) == [b"%d" % number for number in range(5)]

            async def watch():
                kinds.extend([event.kind async for event in events])

            async def close():
                await loop.sleep(0.01)
                await connection.close()

            await all_of(loop, *[watch] * 3, close)
            assert kinds[-1] == "closed"

    loop.run(main)


def test_a_thread_and_a_task_share_a_consumer(broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            async with queue.consume(prefetch=5) as messages:
                done = []

                def work():
                    while (message := messages.next_blocking(10)) is not None:
                        message.ack()
                        done.append(message.body)

                async def read():
                    async for message in messages:
                        message.ack()
                        done.append(message.body)

                thread = threading.Thread(target=work)
                thread.start()
                reading = asyncio.ensure_future(read())
                await queue.publisher().publish_many([b"%d" % number for number in range(400)])
                while len(done) < 400:
                    await asyncio.sleep(0.001)
                await messages.cancel()
                await reading
                await asyncio.to_thread(thread.join, 10)
                assert not thread.is_alive()
        assert sorted(map(int, done)) == list(range(400))

    asyncio.run(asyncio.wait_for(main(), 60))
    assert broker.queues() == {"q": (0, 0)}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system has no list of descriptors")  # noqa: PTH112
def test_cancelled_connects_leave_no_descriptors(loop, uri):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async def opened():
        return await hopmq.connect(uri)

    async def main():
        for connection in await give_up(loop, opened, 0):
            await connection.close()
        before = descriptors()
        for round_number in range(30):
            for connection in await give_up(loop, opened, round_number % 5):
                await connection.close()
        for _ in range(500):
            if descriptors() <= before + 3:
                return
            await loop.sleep(0.01)
        assert descriptors() <= before + 3

    loop.run(main)
