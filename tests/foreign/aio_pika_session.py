"""A session of aio-pika."""

import asyncio
import sys
import time
import uuid

import aio_pika
from aiormq.exceptions import (
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionClosed,
    ConnectionFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from yarl import URL


def step(name):
    print(f"aio-pika: {name}", flush=True)


async def next_of(iterator):
    return await asyncio.wait_for(iterator.__anext__(), 20)


async def queue_deletion(connection, channel):
    cancelled = asyncio.Queue()
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(lambda frame: cancelled.put(frame.consumer_tag))
    for deleting in (channel, await connection.channel()):
        doomed = await channel.declare_queue("", exclusive=True)
        tag = await doomed.consume(print)
        await deleting.queue_delete(doomed.name)
        assert await asyncio.wait_for(cancelled.get(), 20) == tag
    step("queue deletion under a consumer")


async def refused_login():
    try:
        await aio_pika.connect(sys.argv[1].replace("guest:guest", "guest:wrong"), timeout=20)
        raise AssertionError("the login was not refused")
    except ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED" in str(error), error
    step("a refused login")


async def frame_too_large():
    broken = await aio_pika.connect(sys.argv[1])
    closed = asyncio.get_running_loop().create_future()
    broken.close_callbacks.add(lambda connection, error: closed.done() or closed.set_result(error))
    sending = await broken.channel()
    (await sending.get_underlay_channel()).max_content_size = 1 << 24
    publish = sending.default_exchange.publish(aio_pika.Message(bytes(8_000_000)), "nowhere", timeout=20)
    try:
        await publish
        raise AssertionError("the frame was not refused")
    except ConnectionFrameError as error:
        assert "FRAME_ERROR" in str(error), error
    error = await asyncio.wait_for(closed, 20)
    assert isinstance(error, ConnectionFrameError), repr(error)
    step("a frame that is too large")


async def close_under_load():
    busy = await aio_pika.connect(sys.argv[1])
    closed = asyncio.get_running_loop().create_future()
    busy.close_callbacks.add(lambda connection, error: closed.done() or closed.set_result(error))
    flow = await busy.channel(publisher_confirms=False)
    stream = await flow.declare_queue("", exclusive=True)
    taken = asyncio.Semaphore(0)

    async def take(message):
        taken.release()

    await stream.consume(take, no_ack=True)

    async def flood():
        source = await busy.channel(publisher_confirms=False)
        try:
            while True:
                await source.default_exchange.publish(aio_pika.Message(bytes(1000)), stream.name)
        except ConnectionClosed:
            pass

    flooding = asyncio.create_task(flood())
    for _ in range(100):
        await asyncio.wait_for(taken.acquire(), 20)
    begun = time.monotonic()
    await busy.close()
    assert time.monotonic() - begun < 15, "the close took too long"
    error = await asyncio.wait_for(closed, 20)
    assert error is None or (isinstance(error, ConnectionClosed) and not error.args), repr(error)
    await asyncio.wait_for(flooding, 20)
    step("close under load")


async def copy(reader, writer):
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def reconnect():
    """The library connects again after a loss, and declares and consumes again."""
    uri = URL(sys.argv[1])
    links = []

    async def link(reader, writer):
        links.append(writer)
        up, down = await asyncio.open_connection(uri.host, uri.port)
        await asyncio.gather(copy(reader, down), copy(up, writer))

    relay = await asyncio.start_server(link, "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    robust = await aio_pika.connect_robust(uri.with_host("127.0.0.1").with_port(port), reconnect_interval=0.1)
    channel = await robust.channel()
    exchange = await channel.declare_exchange(f"r-{uuid.uuid4().hex}", auto_delete=True)
    queue = await channel.declare_queue("", exclusive=True)
    await queue.bind(exchange, "key")
    got = asyncio.Queue()
    await queue.consume(got.put, no_ack=True)
    back = asyncio.Event()
    robust.reconnect_callbacks.add(lambda connection: back.set())
    links[0].transport.abort()
    await asyncio.wait_for(back.wait(), 20)
    await exchange.publish(aio_pika.Message(b"again"), "key", timeout=20)
    assert (await asyncio.wait_for(got.get(), 20)).body == b"again"
    # More than one attempt, where the broker had not released the exclusive queue of the lost link yet.
    assert len(links) >= 2
    await robust.close()
    relay.close()
    step("reconnect")


async def main():
    own = uuid.uuid4().hex
    connection = await aio_pika.connect(sys.argv[1], heartbeat=2)
    channel = await connection.channel(on_return_raises=True)
    exchange = await channel.declare_exchange(f"x-{own}", aio_pika.ExchangeType.TOPIC, auto_delete=True)
    queue = await channel.declare_queue("", exclusive=True)
    await queue.bind(exchange, "orders.#")
    step("declare and bind")

    message = aio_pika.Message(b"hello", headers={"n": 1, "s": "text"}, message_id="m", content_type="text/plain")
    await exchange.publish(message, "orders.eu")
    try:
        await exchange.publish(aio_pika.Message(b"back"), "elsewhere", mandatory=True)
        raise AssertionError("the message was not returned")
    except PublishError:
        step("publish, confirm, return")

    async with queue.iterator() as deliveries:
        delivery = await next_of(deliveries)
        assert delivery.body == b"hello" and delivery.headers == {"n": 1, "s": "text"}, delivery
        assert delivery.routing_key == "orders.eu" and delivery.message_id == "m", delivery
        await delivery.nack(requeue=True)
        delivery = await next_of(deliveries)
        assert delivery.redelivered
        await delivery.ack()
    assert await queue.get(fail=False) is None
    step("consume, nack, ack, get")

    arguments = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}
    mortal = await channel.declare_queue("", exclusive=True, arguments=arguments)
    await channel.default_exchange.publish(aio_pika.Message(b"late"), mortal.name)
    async with queue.iterator() as deliveries:
        delivery = await next_of(deliveries)
        assert delivery.headers["x-death"][0]["reason"] == "expired", delivery.headers
        await delivery.ack()
    step("time to live and dead letter")

    transacted = await connection.channel(publisher_confirms=False)
    async with transacted.transaction():
        await transacted.default_exchange.publish(aio_pika.Message(b"kept"), queue.name)
    delivery = await queue.get(timeout=20)
    assert delivery.body == b"kept"
    await delivery.ack()
    step("transactions")

    for refusal, action in [
        (ChannelNotFoundEntity, lambda channel: channel.declare_queue(f"missing-{own}", passive=True)),
        (ChannelPreconditionFailed, lambda channel: channel.declare_exchange(f"x-{own}", "fanout")),
    ]:
        try:
            await action(await connection.channel())
            raise AssertionError(f"{refusal} was expected, but nothing was raised")
        except refusal:
            pass
    step("refusals")

    await asyncio.sleep(4.5)
    assert not connection.is_closed and (await channel.declare_queue(queue.name, passive=True)).name == queue.name
    step("heartbeats")

    await queue_deletion(connection, channel)
    await connection.close()

    await refused_login()
    await frame_too_large()
    await close_under_load()
    await reconnect()
    step("close")


asyncio.run(main())
