"""A session of aio-pika."""

import asyncio
import sys
import uuid

import aio_pika
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError


def step(name):
    print(f"aio-pika: {name}", flush=True)


async def next_of(iterator):
    return await asyncio.wait_for(iterator.__anext__(), 20)


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

    await connection.close()
    step("close")


asyncio.run(main())
