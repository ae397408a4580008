// Settling deliveries: ack, nack, reject and recover.

import { body, eq, next, ok, refused } from "./harness.js";

const three = async (channel, queue) => [await channel.get(queue), await channel.get(queue), await channel.get(queue)];

export const scenarios = {
  async acked_messages_are_not_requeued(t) {
    const session = await t.connect();
    const [owner, channel] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(owner, ["1", "2", "3"]);
    (await three(channel, queue))[1].ack();
    await channel.close();
    const consumer = await owner.consume(queue);
    const [first, third] = [await next(consumer), await next(consumer)];
    eq([body(first), body(third), first.redelivered, third.redelivered], ["1", "3", true, true]);
  },

  async a_multiple_ack_settles_all_earlier_deliveries(t) {
    const session = await t.connect();
    const [owner, channel] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(owner, ["1", "2", "3"]);
    const [first, second, third] = await three(channel, queue);
    second.ack(true);
    await refused(() => first.ack(), { kind: "usage" });
    third.nack();
    eq(body(await channel.get(queue)), "3");
    await channel.close();
    eq(body(await next(await owner.consume(queue))), "3");
    await t.expectReady(owner, queue, 0);
  },

  async a_multiple_nack_requeues_all_earlier_deliveries(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    const [first, second] = await three(channel, queue);
    second.nack({ multiple: true });
    await refused(() => first.reject({ requeue: true }), { kind: "usage" });
    eq([body(await channel.get(queue)), body(await channel.get(queue))], ["1", "2"]);
    eq(await channel.get(queue), undefined);
  },

  async a_requeued_message_is_marked_as_redelivered(t) {
    const channel = await t.channel();
    const consumer = await channel.consume(await t.queueWith(channel, ["1"]));
    const first = await next(consumer);
    eq(first.redelivered, false);
    first.nack();
    const second = await next(consumer);
    eq(second.redelivered, true);
    second.reject({ requeue: true });
    const third = await next(consumer);
    eq(third.redelivered, true);
    third.ack();
  },

  async a_nack_without_requeue_drops_the_messages(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    const [first, second, third] = await three(channel, queue);
    first.nack({ requeue: false });
    second.reject();
    third.nack();
    eq(body(await channel.get(queue)), "3");
    eq(await channel.get(queue), undefined);
  },

  async acks_from_before_recover_are_refused_and_the_channel_stays_open(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1"]);
    const before = await channel.get(queue);
    await channel.recover();
    const after = await channel.get(queue);
    ok(after.redelivered);
    await refused(() => before.ack(), { kind: "usage" });
    after.ack();
    await t.expectReady(channel, queue, 0);
  },

  async acks_on_a_closed_channel_fail(t) {
    const session = await t.connect();
    const [owner, channel] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(owner, ["1", "2"]);
    const [first, second] = [await channel.get(queue), await channel.get(queue)];
    await channel.close();
    await refused(() => first.ack(), { kind: "closed" });
    const reused = await session.channel();
    eq(reused.id, channel.id);
    const third = await next(await reused.consume(queue));
    await refused(() => second.ack(), { kind: "closed" });
    third.ack();
  },
};
