// Channels: opening and closing, and the fate of their requests and deliveries.

import { body, eq, next, ok, refused } from "./harness.js";

export const scenarios = {
  async a_hundred_channels_work_in_parallel(t) {
    const session = await t.connect();
    const channels = await Promise.all(Array.from({ length: 100 }, () => session.channel()));
    const queue = await t.queueWith(channels[0], []);
    for (const channel of channels) await channel.publish("", queue, String(channel.id));
    for (const channel of channels) {
      const m = await channel.get(queue);
      eq(body(m), String(channel.id));
      m.ack();
    }
  },

  async the_number_of_a_closed_channel_is_reused(t) {
    const session = await t.connect();
    const [first, second] = [await session.channel(), await session.channel()];
    eq([first.id, second.id], [1, 2]);
    await first.close();
    const third = await session.channel();
    eq(third.id, 1);
    ok(third.isOpen && !first.isOpen);
    await t.queueWith(third, ["it works"]);
    for (let i = 0; i < 20; i++) await (await session.channel()).close();
    eq((await session.channel()).id, 3);
  },

  async the_number_of_a_channel_that_the_broker_closed_is_reused(t) {
    const session = await t.connect();
    for (let i = 0; i < 10; i++) {
      const channel = await session.channel();
      eq(channel.id, 1);
      await refused(channel.declareQueue("no such queue", { passive: true }), { code: 404 });
    }
  },

  async calls_on_a_closed_channel_fail(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    await channel.close();
    const closed = { kind: "closed" };
    await refused(channel.declareQueue("q"), closed);
    await refused(channel.send("", queue, "x"), closed);
    await refused(channel.publish("", queue, "x"), closed);
    await refused(() => channel.trySend("", queue, "x"), closed);
    await refused(channel.get(queue), closed);
    await refused(channel.consume(queue), closed);
    await channel.close();
    eq(session.state, "open");
  },

  async a_connection_has_at_most_the_agreed_number_of_channels(t) {
    const session = await t.connect({ channelMax: 3 });
    eq(session.agreed.channelMax, 3);
    const channels = [await session.channel(), await session.channel(), await session.channel()];
    await refused(session.channel(), { kind: "usage" });
    await channels[1].close();
    eq((await session.channel()).id, 2);
  },

  async resuming_an_active_flow_changes_nothing(t) {
    const channel = await t.channel();
    eq(await channel.flow(true), true);
    await t.queueWith(channel, ["goes on"]);
  },

  async pausing_the_flow_fails_with_540_and_ends_the_connection(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const closed = new Promise((resolve) => session.on("closed", resolve));
    await refused(channel.flow(false), { kind: "connection-closed", code: 540 });
    eq((await closed).code, 540);
    eq(session.state, "closed");
  },

  async a_call_that_times_out_leaves_the_channel_usable(t) {
    const channel = await t.channel({ requestTimeout: 0 }).catch((error) => error);
    // Opening the channel is a request too, and the connection stays open.
    eq(channel.kind, "timeout");
  },

  async sixteen_tasks_share_one_channel(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const work = async (index) => {
      for (let i = 0; i < 50; i++) {
        await channel.publish("", queue, `${index} ${i}`);
        eq((await channel.declareQueue(queue, { passive: true })).name, queue);
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, index) => work(index)));
    const count = Array(16).fill(0);
    for (let m = await channel.get(queue, { noAck: true }); m; m = await channel.get(queue, { noAck: true })) {
      const [index, number] = body(m).split(" ").map(Number);
      eq(number, count[index]++, "each publisher's messages keep their order");
    }
    eq(count, Array(16).fill(50));
  },

  async unacked_messages_of_a_closed_channel_are_requeued(t) {
    const session = await t.connect();
    const [owner, channel] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(owner, ["1"]);
    await channel.get(queue);
    const waiting = await owner.consume(queue);
    await channel.close();
    const m = await next(waiting);
    ok(m.redelivered);
    m.ack();
  },
};
