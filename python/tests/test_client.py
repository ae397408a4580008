"""The client in each kind of event loop, on the embedded broker."""

from __future__ import annotations

import asyncio
import gc
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import trio

import hopmq


def test_a_message_goes_through_a_queue_in_each_form(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            orders = await channel.queue("orders", durable=True)
            await orders.publish(b"one", persistent=True)
            await channel.send("", "orders", "two")
            confirm = await orders.publish_later({"number": 3})
            await confirm
            async with orders.consume(prefetch=10) as messages:
                bodies = []
                async for message in messages:
                    assert message.consumer_tag == messages.tag
                    assert message.ack()
                    bodies.append((message.body, message.persistent, message.content_type))
                    if len(bodies) == 3:
                        break
        assert bodies == [(b"one", True, None), (b"two", False, None), (b'{"number":3}', False, "application/json")]

    loop.run(main)
    assert broker.queues() == {"orders": (0, 0)}


def test_properties_and_headers_come_back_as_they_were(loop, uri):
    created = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)
    headers = {
        "none": None,
        "true": True,
        "small": -7,
        "large": 2**40,
        "float": 2.5,
        "decimal": Decimal("12.34"),
        "text": "grüße",
        "bytes": b"\x00\xff",
        "time": created,
        "list": [1, "two", [3.5, None], {"four": b"5"}],
        "table": {"inner": {"deep": [True]}},
    }
    properties = {
        "content_type": "text/plain",
        "content_encoding": "identity",
        "priority": 7,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": timedelta(minutes=1),
        "message_id": "m",
        "timestamp": created,
        "type": "t",
        "user_id": "guest",
        "app_id": "a",
        "delivery_mode": 2,
    }

    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publish(b"", headers=headers, **properties)
            prepared = hopmq.Properties(headers=headers, **properties)
            await queue.publish(b"", properties=prepared)
            await queue.publish(b"", properties=prepared, priority=9)
            found = [await queue.get() for _ in range(3)]
        assert await_none(found) == []
        for message, priority in zip(found, (7, 7, 9), strict=True):
            assert message.headers == headers
            assert message.header("small") == -7
            assert message.header("missing") is None
            assert message.header("missing", 4) == 4
            assert message.persistent
            for name, value in {**properties, "priority": priority}.items():
                assert getattr(message, name) == value, name
        assert prepared == hopmq.Properties(headers=headers, **properties)
        assert "priority=7" in repr(prepared)

    def await_none(found):
        return [message for message in found if message is None]

    loop.run(main)


def test_times_are_seconds_spans_or_texts(uri):
    for expiration, seconds in [
        (1, 1),
        (0.25, 0.25),
        ("10m", 600),
        ("9m59.5s", 599.5),
        ("200ms", 0.2),
        (timedelta(hours=1), 3600),
    ]:
        message = hopmq.Message(b"", expiration=expiration)
        assert message.expiration == timedelta(seconds=seconds)
    with pytest.raises(ValueError, match="10m"):
        hopmq.Message(b"", expiration="10 parsecs")
    with pytest.raises(ValueError, match="0 or more"):
        hopmq.Message(b"", expiration=-1)


def test_a_publisher_keeps_a_window_and_tells_all_failures(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            await channel.queue("q")
            async with channel.publisher("", "q", window=100) as publisher:
                for number in range(5000):
                    await publisher.publish(b"%d" % number)
                    assert publisher.in_flight <= 100
            assert publisher.published == 5000
            assert publisher.in_flight == 0
            with pytest.raises(ExceptionGroup) as failed:
                async with channel.publisher("", mandatory=True) as publisher:
                    await publisher.publish("q", b"good")
                    await publisher.publish("nowhere", b"bad")
                    await publisher.publish("nowhere", b"worse")
            errors = failed.value.exceptions
            assert [type(error) for error in errors] == [hopmq.Returned, hopmq.Returned]
            assert errors[1].message.body == b"worse"
            assert "message 2" in errors[1].__notes__[0]
            await publisher.flush()

    loop.run(main)
    assert [message.body for message in broker.ready("q")][:3] == [b"0", b"1", b"2"]
    assert broker.queues() == {"q": (5001, 0)}


def test_many_messages_are_published_at_once(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q", max_length=1500, overflow="reject-publish")
            publisher = queue.publisher()
            await publisher.publish_many(b"x" for _ in range(1000))
            confirms = await publisher.publish_many_later([b"x"] * 10)
            await confirms
            assert await publisher.send_many(["x"] * 10) == 10
            with pytest.raises(hopmq.PublishManyError) as failed:
                await publisher.publish_many([b"x"] * 1000)
            assert failed.value.sent == 1000
            numbers = [number for number, _ in failed.value.failed]
            assert numbers == list(range(480, 1000))
            assert isinstance(failed.value.failed[0][1], hopmq.Nacked)

    loop.run(main)
    assert broker.queues() == {"q": (1500, 0)}


def test_a_batch_is_settled_one_by_one_and_together(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"%d" % number for number in range(10)])
            async with queue.consume(prefetch=100) as messages:
                async for batch in messages.batches(10, wait="5s"):
                    assert len(batch) == 10
                    assert [message.body for message in batch] == [b"%d" % number for number in range(10)]
                    assert batch[-1].body == b"9"
                    assert batch[3].ack()
                    assert batch[4].nack(requeue=False)
                    with pytest.raises(hopmq.UsageError, match="already"):
                        batch[3].ack()
                    assert batch.ack()
                    with pytest.raises(hopmq.UsageError, match="batch"):
                        batch[5].ack()
                    with pytest.raises(IndexError, match="10 messages"):
                        batch[10]
                    break
            await queue.publish(b"back")
            async with queue.consume() as messages:
                async for batch in messages.batches():
                    assert batch.nack()
                    break

    loop.run(main)
    assert [message.body for message in broker.ready("q")] == [b"back"]


def test_the_broker_refuses_with_exceptions_of_one_tree(loop, uri):
    async def main():
        async with hopmq.connect(uri) as connection:
            channel = await connection.channel()
            with pytest.raises(hopmq.NotFound) as missing:
                await channel.queue("missing", passive=True)
            assert missing.value.code == 404
            assert isinstance(missing.value, hopmq.ChannelClosed)
            assert isinstance(missing.value, hopmq.Error)
            assert not channel.is_open
            with pytest.raises(hopmq.ChannelClosed):
                await channel.get("missing")
            async with channel.reopen() as channel:
                await channel.queue("q", durable=True)
                with pytest.raises(hopmq.PreconditionFailed, match="durable"):
                    await channel.queue("q")
            async with connection.channel() as channel:
                with pytest.raises(hopmq.Returned) as returned:
                    await channel.publish("", "nowhere", b"lost", mandatory=True)
                assert returned.value.message.body == b"lost"
                assert returned.value.message.return_code == 312
        with pytest.raises(hopmq.AuthenticationError):
            await hopmq.connect(uri, credentials=("guest", "wrong"))
        with pytest.raises(hopmq.ConfigError):
            await hopmq.connect("http://localhost")
        with pytest.raises(hopmq.LinkError):
            await hopmq.connect("amqp://127.0.0.1:1")

    loop.run(main)


def test_exchanges_bindings_transactions_and_returns(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            shop = await channel.exchange("shop", "topic", durable=True)
            north = await channel.exchange("north", "fanout")
            queue = await channel.queue("q")
            await queue.bind("shop", "order.*")
            await north.bind_to("shop", "order.north")
            await channel.queue_bind("q", "north")
            await shop.publish("order.south", b"s")
            await queue.unbind("shop", "order.*")
            await shop.publish("order.north", b"n")
            await shop.send("order.south", b"lost")
            await shop.publish("order.east", b"returned")
            assert await queue.purge() == 2
            returns = channel.returns()
            await channel.send("shop", "order.west", b"back", mandatory=True)
            async for returned in returns:
                assert returned.body == b"back"
                break
            await north.delete()
            assert await queue.delete() == 0
        async with connection_of(uri) as connection, connection.channel() as channel:
            await channel.queue("tx")
            await channel.tx_select()
            await channel.send("", "tx", b"kept")
            await channel.tx_commit()
            await channel.send("", "tx", b"dropped")
            await channel.tx_rollback()

    connection_of = hopmq.connect
    loop.run(main)
    assert [message.body for message in broker.ready("tx")] == [b"kept"]


def test_events_stats_and_facts_of_a_connection(loop, uri):
    async def main():
        connection = await hopmq.connect(uri, name="shop", heartbeat=10)
        events = connection.events()
        assert connection.heartbeat == timedelta(seconds=10)
        assert connection.server_properties["product"]
        assert connection.is_open
        assert connection.is_connected
        async with connection.channel() as channel:
            await channel.queue("q")
            await channel.publish("", "q", b"x")
        assert connection.stats().published == 1
        assert connection.stats().confirmed == 1
        await connection.close()
        assert not connection.is_open
        assert isinstance(await connection.closed(), hopmq.ClosedError)
        kinds = [event.kind async for event in events]
        assert kinds[-1] == "closed"

    loop.run(main)


def test_wrong_arguments_are_named(loop, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            cases = [
                (lambda: queue.publish(object()), TypeError, "a body must be bytes"),
                (lambda: queue.publish({"a": object()}), TypeError, "JSON can't hold"),
                (lambda: queue.publish(b"", headers=3), TypeError, "headers must be a dict, not int"),
                (lambda: queue.publish(b"", headers={"a": {"b": object()}}), TypeError, r'headers\["a"\]\["b"\]'),
                (lambda: queue.publish(b"", headers={1: 2}), TypeError, "a key of headers must be a str, not int"),
                (lambda: queue.publish(b"", headers={"n": 2**70}), OverflowError, "64 bits"),
                (lambda: queue.publish(b"", headers={"d": Decimal("-1")}), OverflowError, "Decimal"),
                (lambda: queue.publish(b"", priority=300), TypeError, "`priority` must be an int from 0 to 255"),
                (lambda: queue.publish(b"", correlation_id=7), TypeError, "`correlation_id` must be a str, not int"),
                (lambda: queue.publish(b"", correlation="x"), TypeError, "no keyword argument `correlation`"),
                (lambda: queue.publish(b"", message_id="x" * 300), ValueError, "`message_id`"),
                (lambda: queue.publish(b"", properties={}), TypeError, "hopmq.Properties, not dict"),
                (lambda: channel.publish("", 7, b""), TypeError, "routing_key"),
                (lambda: channel.queue("q", message_ttl="soon"), ValueError, "a time must be like"),
                (lambda: channel.queue("q", max_length=-1), TypeError, "`max_length` of a queue"),
                (lambda: channel.queue("q", overflow="spill"), ValueError, "drop-head"),
                (lambda: channel.queue("q", lenght=1), TypeError, "no argument `lenght`"),
                (lambda: channel.publisher(window=0), ValueError, "`window`"),
                (lambda: channel.publisher("x").publish(b"body"), TypeError, "routing key"),
                (lambda: hopmq.connect(uri, heartbeet=1), TypeError, "no setting `heartbeet`"),
                (lambda: hopmq.connect(7), TypeError, "`uri` must be a str"),
                (lambda: hopmq.connect(uri, credentials="secret"), TypeError, "`credentials` must be"),
                (lambda: hopmq.connect(uri, recovery="yes"), TypeError, "hopmq.Recovery or a bool"),
            ]
            for call, error, text in cases:
                with pytest.raises(error, match=text) as raised:
                    await call()
                assert "secret" not in str(raised.value)
            nested = current = {}
            for _ in range(100):
                current["n"] = current = {}
            with pytest.raises(RecursionError):
                await queue.publish(b"", headers=nested)
            await queue.publish(b"still usable")

    loop.run(main)


def test_a_message_is_settled_once(loop, broker, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publish(b"x")
            message = await queue.get()
            assert message.message_count == 0
            assert message.is_unsettled
            assert message.reject(requeue=True)
            assert not message.is_unsettled
            with pytest.raises(hopmq.UsageError, match="settled already"):
                message.ack()
            with pytest.raises(hopmq.UsageError, match="nothing to settle"):
                hopmq.Message(b"made here").ack()

    loop.run(main)
    assert broker.queues() == {"q": (1, 0)}


def test_credentials_may_come_from_a_function(loop, uri):
    asked = []

    def provider():
        asked.append("sync")
        return ("guest", "guest")

    async def asynchronous():
        asked.append("async")
        return ("guest", "guest", "1h")

    def failing():
        raise RuntimeError("the vault is closed")

    async def main():
        async with hopmq.connect(uri, credentials=provider):
            pass
        async with hopmq.connect(uri, credentials=asynchronous):
            pass
        with pytest.raises(hopmq.Error, match="credentials"):
            await hopmq.connect(uri, credentials=failing, connect_timeout=5)

    loop.run(main)
    assert asked == ["sync", "async"]


def test_a_wait_ends_in_time(loop, uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            async with queue.consume() as messages:
                if loop.name == "trio":
                    with trio.move_on_after(0.05) as scope:
                        async for _ in messages:
                            raise AssertionError
                    assert scope.cancelled_caught
                else:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(aiter(messages)), 0.05)
                # No delivery was lost by the cancelled wait.
                await queue.publish(b"later")
                async for message in messages:
                    assert message.body == b"later"
                    message.ack()
                    break

    loop.run(main)


def test_many_tasks_share_one_consumer(loop, broker, uri):
    async def worker(messages, done):
        async for message in messages:
            await loop.sleep(0)
            message.ack()
            done.append(message.body)
            if len(done) == 500:
                await messages.cancel()

    async def main():
        done = []
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"%d" % number for number in range(500)])
            async with queue.consume(prefetch=50) as messages:
                if loop.name == "trio":
                    async with trio.open_nursery() as nursery:
                        for _ in range(7):
                            nursery.start_soon(worker, messages, done)
                else:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(7):
                            group.create_task(worker(messages, done))
        assert sorted(map(int, done)) == list(range(500))

    loop.run(main)
    assert broker.queues() == {"q": (0, 0)}


def test_other_tasks_run_while_a_full_queue_is_read(loop, uri):
    async def tick(ticks, stop):
        while not stop:
            ticks.append(1)
            await loop.sleep(0)

    async def read(queue, ticks, stop):
        async with queue.consume(no_ack=True, prefetch=0) as messages:
            count = 0
            async for _ in messages:
                count += 1
                if count == 5000:
                    break
        stop.append(1)
        assert len(ticks) >= 5000 // 512

    async def main():
        ticks, stop = [], []
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await queue.publisher().publish_many([b"x"] * 5000)
            if loop.name == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tick, ticks, stop)
                    nursery.start_soon(read, queue, ticks, stop)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(tick(ticks, stop))
                    group.create_task(read(queue, ticks, stop))

    loop.run(main)


@pytest.mark.parametrize("waits_for", ["connect", "channel", "confirm", "get", "batch", "close"])
def test_a_task_is_cancelled_at_each_wait(waits_for, uri):
    """Cancelled at once: what is begun ends by itself, and the handles stay usable."""

    async def cancelled(awaitable):
        async def wait():
            await awaitable

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        # What was done before the cancellation is done.
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None

    async def main():
        if waits_for == "connect":
            await cancelled(hopmq.connect(uri))
        connection = await hopmq.connect(uri)
        channel = await connection.channel()
        queue = await channel.queue("q")
        await queue.purge()
        if waits_for == "channel":
            await cancelled(connection.channel())
        elif waits_for == "confirm":
            await cancelled(queue.publish(b"x"))
            await queue.publish(b"y")
            assert {(await queue.get()).body, (await queue.get()).body} == {b"x", b"y"}
        elif waits_for == "get":
            await queue.publish(b"x")
            await cancelled(queue.get())
            # If the wait was given up, the message that was on its way has gone back.
            await channel.recover()
            while (message := await queue.get()) is None:
                await asyncio.sleep(0.01)
            message.ack()
        elif waits_for == "batch":
            async with queue.consume() as messages:
                batches = messages.batches(10, wait="10s")
                await cancelled(anext(batches))
        elif waits_for == "close":
            await cancelled(connection.close())
            assert isinstance(await connection.closed(), hopmq.ClosedError)
            return
        assert channel.is_open
        await connection.close()

    async def limited():
        async with asyncio.timeout(30):
            await main()

    asyncio.run(limited())


def test_an_operation_is_awaited_once(uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            declared = channel.queue("q")
            await declared
            with pytest.raises(RuntimeError, match="awaited already"):
                await declared
            confirm = await channel.publish_later("", "q", b"x")
            await confirm
            with pytest.raises(hopmq.UsageError, match="awaited already"):
                await confirm

    asyncio.run(main())


def test_operations_work_with_asyncios_helpers(uri):
    async def main():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            await asyncio.gather(*(queue.publish(b"x") for _ in range(100)))
            confirms = [await queue.publish_later(b"x") for _ in range(100)]
            await asyncio.gather(*confirms)
            message = await asyncio.wait_for(queue.get(), 5)
            assert message.message_count == 199

    asyncio.run(main())


def test_one_connection_serves_two_loops(uri):
    """Handles belong to no loop."""

    async def open_one():
        connection = await hopmq.connect(uri)
        channel = await connection.channel()
        await channel.queue("q")
        return connection, channel

    async def use(connection, channel):
        await channel.publish("", "q", b"x")
        message = await channel.get("q")
        assert message.body == b"x"
        await connection.close()

    connection, channel = asyncio.run(open_one())
    asyncio.run(use(connection, channel))


def test_no_loop_is_told():
    operation = hopmq.connect("amqp://127.0.0.1:1").__await__()
    with pytest.raises((RuntimeError, hopmq.LinkError)):
        next(operation)


def test_use_after_close_is_an_error(loop, uri):
    async def main():
        connection = await hopmq.connect(uri)
        channel = await connection.channel()
        queue = await channel.queue("q")
        messages = await queue.consume()
        await connection.close()
        for call in (
            lambda: channel.queue("q"),
            lambda: queue.publish(b""),
            lambda: queue.send(b""),
            lambda: queue.get(),
            lambda: connection.channel(),
        ):
            with pytest.raises(hopmq.Error):
                await call()
        with pytest.raises((StopAsyncIteration, hopmq.Error)):
            await anext(messages)
        async with connection:
            pass

    loop.run(main)


def test_nothing_leaks(uri):
    """Neither objects nor descriptors are left of what has ended."""

    async def once():
        async with hopmq.connect(uri) as connection, connection.channel() as channel:
            queue = await channel.queue("q")
            for _ in range(50):
                await queue.publish(b"x", headers={"a": [1]})
            async with queue.consume() as messages:
                for _ in range(50):
                    (await anext(messages)).ack()

    def descriptors():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208

    def count():
        gc.collect()
        return len(gc.get_objects())

    asyncio.run(once())
    asyncio.run(once())
    objects, files = count(), descriptors()
    for _ in range(10):
        asyncio.run(once())
    assert count() - objects < 50
    assert descriptors() - files < 5
