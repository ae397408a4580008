// Publishing and consuming in batches.

import { body, eq, ok, refused } from "./harness.js";

/** Starts batches of a queue's consumer. */
const start = async (t, channel, queue, options, consume) => {
  const consumer = await channel.consume(queue, consume);
  return t.world.codecs.batches(consumer, options);
};

const next = async (batches) => {
  const { value, done } = await batches.next();
  ok(!done, "the consumer ended");
  return value;
};

const target = (channel, queue, options) => ({ publish: (text) => channel.publish("", queue, text, options) });

const texts = (batch) => batch.map(body);

export const scenarios = {
  async the_messages_of_a_batch_arrive_in_order_and_are_confirmed_together(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const lines = Array.from({ length: 3000 }, (_, index) => `${index}`);
    await t.world.codecs.publishMany(target(channel, queue), lines);
    await t.expectReady(channel, queue, 3000);
    const batches = await start(t, channel, queue, { maxCount: 100 }, { prefetch: 200 });
    const all = [];
    while (all.length < 3000) {
      const batch = await next(batches);
      ok(batch.length <= 100, `${batch.length} messages`);
      all.push(...texts(batch));
      batch.ackAll();
    }
    eq(all, lines);
    await batches.return();
    await t.expectReady(channel, queue, 0);
  },

  async a_batch_names_the_messages_that_were_refused(t) {
    const channel = await t.channel();
    const { name } = await channel.declareQueue(t.name("queue"), {
      exclusive: true, arguments: { "x-max-length": 2, "x-overflow": "reject-publish" },
    });
    const error = await refused(t.world.codecs.publishMany(target(channel, name), ["1", "2", "3", "4", "5"]), {
      kind: "nacked",
    });
    const failed = error.failed.map(({ index, error }) => [index, error.kind]);
    eq([error.count, failed], [5, [2, 3, 4].map((index) => [index, "nacked"])]);
    ok(error.message.startsWith("3 of 5 messages were not confirmed; the first is number 2: "), error.message);
  },

  async a_batch_names_the_messages_that_no_queue_took(t) {
    const channel = await t.channel();
    const bodies = Array.from({ length: 300 }, (_, index) => `${index}`);
    const error = await refused(t.world.codecs.publishMany(target(channel, "nowhere", { mandatory: true }), bodies));
    eq(error.failed.map(({ index, error }) => [index, error.kind]), bodies.map((_, index) => [index, "returned"]));
  },

  async a_full_batch_does_not_wait_and_a_short_one_waits_its_time(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    const batches = await start(t, channel, queue, { maxCount: 2, wait: 100 });
    const first = await next(batches);
    const second = await next(batches);
    eq([texts(first), texts(second)], [["1", "2"], ["3"]]);
    first.ackAll();
    second.ackAll();
    await batches.return();
  },

  async a_batch_settles_its_own_deliveries_and_no_others(t) {
    const owner = await t.channel();
    const { name } = await owner.declareQueue(t.name("queue"), {});
    for (const text of ["1", "2", "3", "4"]) await owner.publish("", name, text);
    const channel = await t.channel();
    const batches = await start(t, channel, name, { maxCount: 2, wait: 60_000 });
    const first = await next(batches);
    const second = await next(batches);
    second.ackAll();
    eq([texts(first), texts(second)], [["1", "2"], ["3", "4"]]);
    await channel.close();
    await t.expectReady(owner, name, 2);
  },

  async the_deliveries_of_a_batch_are_rejected_together(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2"]);
    const batches = await start(t, channel, queue, { maxCount: 2, wait: 60_000 });
    (await next(batches)).nackAll();
    const again = await next(batches);
    eq([texts(again), again.every((message) => message.redelivered)], [["1", "2"], true]);
    again.nackAll({ requeue: false });
    await batches.return();
    await t.expectReady(channel, queue, 0);
  },

  async leaving_a_loop_over_batches_requeues_what_was_not_yielded(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    for await (const batch of await start(t, channel, queue, { maxSize: 1 })) {
      eq(texts(batch), ["1"]);
      batch.ackAll();
      break;
    }
    await t.expectReady(channel, queue, 2);
  },
};
