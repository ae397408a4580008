// Settling deliveries: ack, nack, reject and recover.

import { body, eq, next, ok, refused } from "./harness.js";

const three = async (channel, queue) => [await channel.get(queue), await channel.get(queue), await channel.get(queue)];

export const scenarios = {
  async what_is_acked_does_not_come_back(t) {
    const session = await t.connect();
    const [owner, channel] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(owner, ["1", "2", "3"]);
    (await three(channel, queue))[1].ack();
    await channel.close();
    const consumer = await owner.consume(queue);
    const [first, third] = [await next(consumer), await next(consumer)];
    eq([body(first), body(third), first.redelivered, third.redelivered], ["1", "3", true, true]);
  },

  async one_ack_settles_all_before_it(t) {
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

  async one_nack_gives_back_all_before_it(t) {
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

  async what_is_nacked_without_requeue_is_dropped(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    const [first, second, third] = await three(channel, queue);
    first.nack({ requeue: false });
    second.reject();
    third.nack();
    eq(body(await channel.get(queue)), "3");
    eq(await channel.get(queue), undefined);
  },

  async after_recover_old_acks_are_refused_here_and_the_channel_goes_on(t) {
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

  async acks_on_a_channel_that_is_closed_tell_so(t) {
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
