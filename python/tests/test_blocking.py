"""The client of plain threads, on the embedded broker."""

from __future__ import annotations

import threading

import pytest

import hopmq
import hopmq.blocking


@pytest.fixture
def channel(uri):
    with hopmq.blocking.connect(uri, name="test") as connection, connection.channel() as channel:
        yield channel


def test_a_message_goes_through_a_queue_in_each_form(broker, channel):
    orders = channel.queue("orders", durable=True)
    orders.publish(b"one", persistent=True)
    channel.send("", "orders", "two")
    orders.publish_later({"number": 3}).wait()
    with orders.consume(prefetch=10) as messages:
        bodies = []
        for message in messages:
            assert message.ack()
            bodies.append(message.body)
            if len(bodies) == 3:
                break
    assert bodies == [b"one", b"two", b'{"number":3}']
    assert broker.queues() == {"orders": (0, 0)}


def test_each_method_waits_for_its_reply(broker, channel):
    connection = channel.connection
    assert connection.is_open
    assert connection.is_connected
    assert connection.frame_max > 0
    assert connection.channel_max > 0
    assert connection.heartbeat
    assert connection.server_properties["product"]
    assert channel.is_open
    assert channel.id == 1
    assert "Channel" in repr(channel)
    shop = channel.exchange("shop", "topic")
    north = channel.exchange("north", "fanout")
    assert (shop.name, north.name) == ("shop", "north")
    queue = channel.queue("q")
    assert (queue.name, queue.message_count, queue.consumer_count) == ("q", 0, 0)
    queue.bind("shop", "a.*")
    queue.unbind("shop", "a.*")
    channel.queue_bind("q", "north")
    channel.queue_unbind("q", "north")
    north.bind_to("shop", "n")
    channel.exchange_unbind("north", "shop", "n")
    channel.exchange_bind("north", "shop", "n")
    channel.queue_bind("q", "north")
    shop.publish("n", b"1")
    shop.send("n", b"2")
    shop.publish_later("n", b"3").wait()
    queue.send(b"4")
    channel.publish("", "q", b"5")
    channel.publish_later("", "q", b"6").wait("5s")
    assert queue.get(no_ack=True).body == b"1"
    assert channel.get("q").ack()
    assert queue.purge() == 4
    queue.publish(b"x")
    assert channel.queue_purge("q") == 1
    assert channel.get("q") is None
    channel.prefetch(10)
    channel.prefetch(10, shared=True)
    channel.recover()
    assert channel.flow(active=True)
    channel.within(5).publish("", "q", b"x")
    assert connection.within("5s").stats().published >= 8
    assert queue.delete() == 1
    north.delete()
    channel.exchange_delete("shop")
    with pytest.raises(hopmq.NotFound):
        channel.queue("q", passive=True)
    with channel.reopen() as again:
        again.queue("q")
        again.queue_delete("q")
    events = connection.events()
    connection.close()
    assert events.next(5).kind == "closed"
    assert events.next(5) is None
    assert isinstance(connection.closed(5), hopmq.ClosedError)


def test_transactions_are_committed_and_rolled_back(broker, channel):
    channel.queue("tx")
    channel.tx_select()
    channel.send("", "tx", b"kept")
    channel.tx_commit()
    channel.send("", "tx", b"dropped")
    channel.tx_rollback()
    assert [message.body for message in broker.ready("tx")] == [b"kept"]


def test_a_publisher_keeps_a_window_and_tells_failures(broker, channel):
    channel.queue("q")
    with channel.publisher("", "q", window=100) as publisher:
        for number in range(3000):
            publisher.publish(b"%d" % number)
    assert (publisher.published, publisher.in_flight, publisher.window) == (3000, 0, 100)
    publisher.publish_now(b"x")
    publisher.send(b"x")
    publisher.publish_many([b"x"] * 10)
    publisher.publish_many_later([b"x"] * 10).wait()
    assert publisher.send_many([b"x"] * 10) == 10
    with pytest.raises(ExceptionGroup) as failed, channel.publisher(mandatory=True) as publisher:
        publisher.publish("nowhere", b"x")
    assert isinstance(failed.value.exceptions[0], hopmq.Returned)
    broker.settle()
    assert broker.queues() == {"q": (3032, 0)}


def test_batches_and_timeouts(broker, channel):
    queue = channel.queue("q")
    with queue.consume() as messages:
        with pytest.raises(TimeoutError):
            messages.next(0.05)
        queue.publish(b"x")
        assert messages.next(5).ack()
    queue.publisher().publish_many([b"x"] * 300)
    with queue.consume(prefetch=1000) as messages:
        batches = messages.batches(100, wait=5)
        assert batches.next(5).ack()
        seen = 100
        for batch in batches:
            seen += len(batch)
            batch.ack()
            if seen == 300:
                break
    returns = channel.returns()
    channel.send("", "nowhere", b"back", mandatory=True)
    assert returns.next(5).body == b"back"
    consumer = queue.consume()
    consumer.cancel()
    assert list(consumer) == []
    consumer.close()
    assert broker.queues() == {"q": (0, 0)}


def test_threads_share_a_channel(broker, channel):
    """Publishing and acknowledging work from any thread, and no thread keeps the others out while it waits."""
    queue = channel.queue("q")
    with queue.consume(prefetch=20) as messages:

        def publish():
            for number in range(200):
                queue.publish(b"%d" % number)

        def consume():
            while (message := messages.next(10)) is not None:
                message.ack()
                done.append(message.body)
                if len(done) == 800:
                    messages.cancel()

        done = []
        threads = [threading.Thread(target=target) for target in [publish] * 4 + [consume] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert len(done) == 800
    broker.settle()
    assert broker.queues() == {"q": (0, 0)}


def test_a_shutdown_waits_for_what_is_under_way(broker, uri):
    connection = hopmq.blocking.connect(uri)
    channel = connection.channel()
    queue = channel.queue("q")
    confirm = queue.publish_later(b"x")
    connection.update_secret("guest")
    connection.shutdown(5)
    confirm.wait(5)
    assert not connection.is_open
    assert broker.queues() == {"q": (1, 0)}
