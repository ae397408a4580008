"""Links that are cut while programs publish and consume: nothing that was confirmed is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from urllib.parse import urlsplit

import pytest
import trio

import hopmq
import hopmq.blocking


class Relay:
    """A TCP relay to the broker, whose links can be cut."""

    def __init__(self, uri):
        parts = urlsplit(uri)
        self.target = (parts.hostname, parts.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"amqp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.lock = threading.Lock()
        self.links = []
        self.cuts = 0
        self.carrying = []
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            with self.lock:
                self.links.append((client, server))
            carrying = threading.Thread(target=self.carry, args=(client, server), daemon=True)
            carrying.start()
            self.carrying.append(carrying)

    def carry(self, client, server):
        with client, server:
            back = threading.Thread(target=self.copy, args=(server, client), daemon=True)
            back.start()
            self.copy(client, server)
            back.join()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Cut all links."""
        with self.lock:
            links, self.links = self.links, []
        for link in links:
            for end in link:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.cuts += 1

    def close(self):
        """Accept no more links, and cut all."""
        if self.listener.fileno() != -1:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.accepting.join(10)
            self.listener.close()
        self.cut()
        for carrying in self.carrying:
            carrying.join(10)


@pytest.fixture
def relay(uri):
    relay = Relay(uri)
    yield relay
    relay.close()


FAST = hopmq.Recovery(first_delay=0.01, longest_delay=0.05)
COUNT = 600


def test_nothing_confirmed_is_lost_when_links_are_cut(loop, broker, relay):
    async def main():
        confirmed, seen = [], set()

        async def publish(channel):
            queue = await channel.queue("q", durable=True)
            for number in range(COUNT):
                await queue.publish(b"%d" % number, persistent=True)
                confirmed.append(number)
                if number % 150 == 100:
                    relay.cut()

        async def consume(channel):
            queue = await channel.queue("q", durable=True)
            async with queue.consume(prefetch=20) as messages:
                async for message in messages:
                    seen.add(int(message.body))
                    # False: the link was lost, and the message comes again.
                    message.ack()
                    if len(seen) == COUNT:
                        break

        # Both are there before a link is cut: recovery is for connections that were open.
        async with (
            hopmq.connect(relay.uri, recovery=FAST) as one,
            hopmq.connect(relay.uri, recovery=FAST) as other,
            one.channel() as publishing,
            other.channel() as consuming,
        ):
            if loop.name == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish, publishing)
                    nursery.start_soon(consume, consuming)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(publish(publishing))
                    group.create_task(consume(consuming))
        assert confirmed == list(range(COUNT))
        assert seen == set(range(COUNT))

    loop.run(main)
    assert relay.cuts == 4


def test_threads_go_on_when_links_are_cut(relay):
    confirmed, seen, failed = [], set(), []
    connected = threading.Barrier(2)

    def publish(first):
        try:
            with hopmq.blocking.connect(relay.uri, recovery=FAST) as connection, connection.channel() as channel:
                queue = channel.queue("q", durable=True)
                # No link is cut before both are there: recovery is for connections that were open.
                connected.wait(30)
                for number in range(first, first + 300):
                    queue.publish(b"%d" % number, persistent=True)
                    confirmed.append(number)
                    if number % 150 == 100:
                        relay.cut()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=publish, args=(first,)) for first in (0, 300)]
    with hopmq.blocking.connect(relay.uri, recovery=FAST) as connection, connection.channel() as channel:
        queue = channel.queue("q", durable=True)
        with queue.consume(prefetch=20) as messages:
            for thread in threads:
                thread.start()
            while len(seen) < 600 and not failed:
                message = messages.next(30)
                seen.add(int(message.body))
                message.ack()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failed == []
    assert sorted(confirmed) == list(range(600))
    assert seen == set(range(600))


def test_a_window_and_batches_survive_a_cut(loop, broker, relay):
    async def main():
        async with hopmq.connect(relay.uri, recovery=FAST) as connection, connection.channel() as channel:
            events = connection.events()
            queue = await channel.queue("q", durable=True)
            async with queue.publisher(window=100, persistent=True) as publisher:
                for number in range(2000):
                    await publisher.publish(b"%d" % number)
                    if number in (500, 1500):
                        relay.cut()
            seen = set()
            async with queue.consume(prefetch=200) as messages:
                async for batch in messages.batches(50, wait=0.01):
                    seen.update(int(message.body) for message in batch)
                    if len(seen) > 1000 and relay.cuts == 2:
                        relay.cut()
                    batch.ack()
                    if len(seen) == 2000:
                        break
            async for event in events:
                if event.kind == "recovered":
                    assert event.outage.total_seconds() >= 0
                    assert event.replayed["channels"] == 1
                    break

    loop.run(main)
    assert relay.cuts == 3


def test_a_link_that_is_not_restored_ends_all_waits(loop, relay):
    async def main():
        connection = await hopmq.connect(relay.uri, recovery=False)
        channel = await connection.channel()
        queue = await channel.queue("q")
        messages = await queue.consume()
        ended = []

        async def read():
            try:
                await anext(messages)
            except hopmq.ConnectionClosed as error:
                ended.append(error)

        async def cut():
            await loop.sleep(0.01)
            relay.cut()

        if loop.name == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(cut)
        else:
            await asyncio.gather(read(), cut())
        assert isinstance(await connection.closed(), hopmq.ConnectionClosed)
        assert len(ended) == 1
        with pytest.raises(hopmq.Error):
            await queue.publish(b"x")
        await connection.__aexit__(None, None, None)

    loop.run(main)


def test_a_publish_without_a_link_fails_if_that_is_wanted(loop, relay):
    settings = hopmq.Recovery(first_delay=30, publishing="fail", unconfirmed="fail")

    async def main():
        connection = await hopmq.connect(relay.uri, recovery=settings)
        events = connection.events()
        channel = await connection.channel()
        queue = await channel.queue("q")
        relay.close()
        async for event in events:
            if event.kind == "lost":
                break
        assert connection.is_open
        assert not connection.is_connected
        with pytest.raises(hopmq.Recovering):
            await queue.publish(b"x")
        with pytest.raises(hopmq.Timeout):
            await channel.within(0.05).queue("other")
        await connection.shutdown(0.05)

    loop.run(main)
