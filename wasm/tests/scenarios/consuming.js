// Consumers: dispatch, prefetch, and how consumers end.

import { bodies, body, eq, next, ok, refused } from "./harness.js";

export const scenarios = {
  async deliveries_arrive_in_the_order_of_the_publishes(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue, { prefetch: 0 });
    for (let i = 0; i < 2000; i++) channel.send("", queue, String(i));
    for (let i = 0; i < 2000; i++) {
      const m = await next(consumer);
      eq([body(m), m.deliveryTag, m.redelivered], [String(i), i + 1, false]);
      m.ack();
    }
  },

  async a_prefetch_limits_the_unacked_deliveries(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3", "4", "5"]);
    const consumer = await channel.consume(queue, { prefetch: 2 });
    const [first, second] = [await next(consumer), await next(consumer)];
    await t.expectReady(channel, queue, 3);
    first.ack();
    eq(await bodies(consumer, 1), ["3"]);
    await t.expectReady(channel, queue, 2);
    second.ack(true);
    eq(await bodies(consumer, 1), ["4"]);
    await t.expectReady(channel, queue, 1);
  },

  async the_prefetch_of_the_channel_is_the_default_of_its_consumers(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3", "4", "5"]);
    await channel.prefetch(2);
    eq(await bodies(await channel.consume(queue), 2), ["1", "2"]);
    await t.expectReady(channel, queue, 3);
  },

  async a_shared_prefetch_limits_all_consumers_of_the_channel_together(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3", "4", "5"]);
    await channel.prefetch(3, { shared: true });
    const one = await channel.consume(queue, { prefetch: 2 });
    const two = await channel.consume(queue, { prefetch: 2 });
    await bodies(one, 2);
    await bodies(two, 1);
    await t.expectReady(channel, queue, 2);
  },

  async two_consumers_share_a_queue(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const one = await channel.consume(queue, { prefetch: 2 });
    const two = await channel.consume(queue, { prefetch: 2 });
    for (const text of ["1", "2", "3", "4"]) await channel.publish("", queue, text);
    eq([...(await bodies(one, 2)), ...(await bodies(two, 2))].sort(), ["1", "2", "3", "4"]);
  },

  async without_acks_messages_are_removed_when_they_are_sent(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(channel, ["1", "2"]);
    const consumer = await other.consume(queue, { noAck: true });
    (await next(consumer)).ack();
    await bodies(consumer, 1);
    await other.close();
    await t.expectReady(channel, queue, 0);
  },

  async an_exclusive_consumer_excludes_other_consumers(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(channel, ["for the first"]);
    const consumer = await channel.consume(queue, { exclusive: true });
    await refused(other.consume(queue), { kind: "channel-closed", code: 403 });
    eq(await bodies(consumer, 1), ["for the first"]);
  },

  async consuming_from_a_missing_queue_fails_with_404(t) {
    await refused((await t.channel()).consume(t.name("missing")), { kind: "channel-closed", code: 404 });
  },

  async a_consumer_has_the_chosen_tag_or_a_unique_one(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1"]);
    const named = await channel.consume(queue, { tag: "my consumer" });
    eq(named.tag, "my consumer");
    const m = await next(named);
    const [one, two] = [await channel.consume(queue), await channel.consume(queue)];
    ok(one.tag !== two.tag && one.tag !== "");
    await refused(channel.consume(queue, { tag: "my consumer" }), { kind: "usage" });
    m.ack();
  },

  async consumers_of_higher_priority_receive_messages_first(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const low = await channel.consume(queue, { arguments: { "x-priority": -1 } });
    const high = await channel.consume(queue, { arguments: { "x-priority": 10 }, prefetch: 2 });
    for (const text of ["1", "2", "3"]) await channel.publish("", queue, text);
    eq(await bodies(high, 2), ["1", "2"]);
    eq(await bodies(low, 1), ["3"]);
  },

  async a_cancelled_consumer_yields_what_was_delivered_and_ends(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    const consumer = await channel.consume(queue);
    const first = await next(consumer);
    await consumer.cancel();
    await channel.publish("", queue, "4");
    eq(await bodies(consumer, 2), ["2", "3"]);
    for (let i = 0; i < 2; i++) eq((await consumer.next()).done, true);
    first.ack();
    eq(body(await channel.get(queue)), "4");
  },

  async the_broker_cancels_consumers_of_a_queue_that_is_deleted(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(channel, ["1"]);
    const consumer = await channel.consume(queue);
    await bodies(consumer, 1);
    await other.deleteQueue(queue);
    await refused(consumer.next(), { kind: "consumer-cancelled" });
    eq((await consumer.next()).done, true);
    ok(channel.isOpen, "the channel goes on");
  },

  async a_dropped_consumer_requeues_its_undelivered_messages(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    let first;
    for await (const m of await channel.consume(queue)) {
      first = m;
      break;
    }
    const again = await channel.consume(queue);
    eq(await bodies(again, 2), ["2", "3"]);
    first.ack();
    await again.return();
    await channel.publish("", queue, "4");
    await channel.purgeQueue(queue);
  },

  async a_consumer_ends_with_the_reason_of_its_channel(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue);
    await refused(channel.declareQueue(t.name("missing"), { passive: true }));
    await refused(consumer.next(), { kind: "channel-closed", code: 404 });
    eq((await consumer.next()).done, true);
  },

  async the_end_of_another_channel_does_not_affect_a_consumer(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue);
    await refused(other.declareQueue(t.name("missing"), { passive: true }));
    await channel.publish("", queue, "still here");
    eq(await bodies(consumer, 1), ["still here"]);
  },

  async a_get_returns_how_many_messages_are_left(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2"]);
    const first = await channel.get(queue);
    eq([body(first), first.messageCount], ["1", 1]);
    const second = await channel.get(queue, { noAck: true });
    eq([body(second), second.messageCount], ["2", 0]);
    eq(await channel.get(queue), undefined);
    first.nack();
    second.nack();
    const again = await channel.get(queue);
    eq([body(again), again.redelivered], ["1", true]);
  },
};
