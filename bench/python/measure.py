"""Measures one workload of one client of Python: `measure.py CLIENT WORKLOAD COUNT`, with the broker of `AMQP_URL`.

Prints one line: the messages, the seconds, the CPU seconds of the process, and its peak memory in KiB. Connecting comes
before the clock is started. `measure.py fill any COUNT` leaves the queue with that many messages.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time

URL = os.environ["AMQP_URL"]
QUEUE = "bench-python"
BODY = b"x" * 100
PREFETCH = 1000
WINDOW = 1000


class Clock:
    """Prints what passed between its beginning and its end."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.begun, self.used = time.perf_counter(), cpu()

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            seconds, used = time.perf_counter() - self.begun, cpu() - self.used
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"count={self.count} seconds={seconds:.6f} cpu={used:.6f} memory={memory}")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def fill(count: int) -> None:
    """Leave exactly `count` messages in the queue."""
    import hopmq.blocking

    with hopmq.blocking.connect(URL) as connection, connection.channel() as channel:
        queue = channel.queue(QUEUE)
        queue.purge()
        left = count
        while left > 0:
            queue.publisher().publish_many([BODY] * min(left, 100_000))
            left -= 100_000


async def hopmq_async(workload: str, count: int) -> None:
    import hopmq

    async with hopmq.connect(URL) as connection, connection.channel() as channel:
        queue = await channel.queue(QUEUE, passive=True)
        if workload == "send":
            with Clock(count):
                for _ in range(count - 1):
                    await channel.send("", QUEUE, BODY)
                await channel.publish("", QUEUE, BODY)
        elif workload == "window":
            with Clock(count):
                async with channel.publisher("", QUEUE, window=WINDOW) as publisher:
                    for _ in range(count):
                        await publisher.publish(BODY)
        elif workload == "one":
            with Clock(count):
                for _ in range(count):
                    await channel.publish("", QUEUE, BODY)
        elif workload == "consume":
            with Clock(count):
                async with queue.consume(prefetch=PREFETCH) as messages:
                    left = count
                    async for message in messages:
                        assert message.body
                        message.ack()
                        left -= 1
                        if left == 0:
                            break
                await channel.queue(QUEUE, passive=True)
        elif workload == "batches":
            with Clock(count):
                async with queue.consume(prefetch=PREFETCH) as messages:
                    left = count
                    async for batch in messages.batches(256):
                        for message in batch:
                            assert message.body
                        batch.ack()
                        left -= len(batch)
                        if left == 0:
                            break
                await channel.queue(QUEUE, passive=True)


def hopmq_blocking(workload: str, count: int) -> None:
    import hopmq.blocking

    with hopmq.blocking.connect(URL) as connection, connection.channel() as channel:
        queue = channel.queue(QUEUE, passive=True)
        if workload == "send":
            with Clock(count):
                for _ in range(count - 1):
                    channel.send("", QUEUE, BODY)
                channel.publish("", QUEUE, BODY)
        elif workload == "window":
            with Clock(count), channel.publisher("", QUEUE, window=WINDOW) as publisher:
                for _ in range(count):
                    publisher.publish(BODY)
        elif workload == "one":
            with Clock(count):
                for _ in range(count):
                    channel.publish("", QUEUE, BODY)
        elif workload == "consume":
            with Clock(count):
                with queue.consume(prefetch=PREFETCH) as messages:
                    left = count
                    for message in messages:
                        assert message.body
                        message.ack()
                        left -= 1
                        if left == 0:
                            break
                channel.queue(QUEUE, passive=True)


async def aio_pika(workload: str, count: int) -> None:
    import aio_pika

    connection = await aio_pika.connect(URL)
    channel = await connection.channel(publisher_confirms=workload != "send")
    await channel.set_qos(PREFETCH)
    queue = await channel.declare_queue(QUEUE, passive=True)
    exchange = channel.default_exchange

    async def publish() -> None:
        await exchange.publish(aio_pika.Message(BODY), QUEUE)

    if workload in {"send", "one"}:
        with Clock(count):
            for _ in range(count):
                await publish()
            await channel.declare_queue(QUEUE, passive=True)
    elif workload == "window":
        room = asyncio.Semaphore(WINDOW)

        async def within() -> None:
            async with room:
                await publish()

        with Clock(count):
            await asyncio.gather(*(within() for _ in range(count)))
    elif workload == "consume":
        with Clock(count):
            left = count
            async with queue.iterator() as messages:
                async for message in messages:
                    assert message.body
                    await message.ack()
                    left -= 1
                    if left == 0:
                        break
    await connection.close()


def pika(workload: str, count: int) -> None:
    """Pika's asynchronous adapter, which is its fastest."""
    import pika

    state = {"sent": 0, "confirmed": 0, "clock": None}
    connection = pika.SelectConnection(
        pika.URLParameters(URL), on_open_callback=lambda connection: connection.channel(on_open_callback=opened)
    )

    def end(channel: pika.channel.Channel) -> None:
        # The broker's answer comes after all that was sent.
        channel.queue_declare(QUEUE, passive=True, callback=ended)

    def ended(_frame: object) -> None:
        state["clock"].__exit__(None)
        connection.close()
        connection.ioloop.stop()

    def opened(channel: pika.channel.Channel) -> None:
        state["clock"] = Clock(count)
        if workload == "window":
            channel.confirm_delivery(lambda frame: confirmed(channel, frame), callback=lambda _frame: begin(channel))
        elif workload == "consume":
            channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _frame: begin(channel))
        else:
            begin(channel)

    def begin(channel: pika.channel.Channel) -> None:
        state["clock"].__enter__()
        if workload == "consume":
            channel.basic_consume(QUEUE, received)
        else:
            more(channel)

    def more(channel: pika.channel.Channel) -> None:
        window = WINDOW if workload == "window" else 500
        target = min(count, (state["confirmed"] if workload == "window" else state["sent"]) + window)
        while state["sent"] < target:
            channel.basic_publish("", QUEUE, BODY)
            state["sent"] += 1
        if workload == "send":
            if state["sent"] < count:
                connection.ioloop.add_callback(lambda: more(channel))
            else:
                end(channel)

    def confirmed(channel: pika.channel.Channel, frame: object) -> None:
        state["confirmed"] = frame.method.delivery_tag
        if state["confirmed"] == count:
            end(channel)
        elif state["sent"] - state["confirmed"] <= WINDOW // 2:
            more(channel)

    def received(channel: pika.channel.Channel, method: object, _properties: object, body: bytes) -> None:
        assert body
        channel.basic_ack(method.delivery_tag)
        state["sent"] += 1
        if state["sent"] == count:
            end(channel)

    connection.ioloop.start()


def py_amqp(workload: str, count: int) -> None:
    """The client of Celery."""
    from urllib.parse import urlsplit

    import amqp

    address = urlsplit(URL)
    connection = amqp.Connection(
        f"{address.hostname}:{address.port}", confirm_publish=workload == "one", virtual_host="/"
    )
    with connection, connection.channel() as channel, Clock(count):
        for _ in range(count):
            channel.basic_publish(amqp.Message(BODY), routing_key=QUEUE)


def main() -> None:
    client, workload, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if client == "fill":
        fill(count)
        return
    run = {
        "hopmq": hopmq_async,
        "hopmq.blocking": hopmq_blocking,
        "aio-pika": aio_pika,
        "pika": pika,
        "py-amqp": py_amqp,
    }[client]
    result = run(workload, count)
    if result is not None:
        asyncio.run(result)


if __name__ == "__main__":
    main()
