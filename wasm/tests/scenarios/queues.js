// Queues: declaring, deleting, purging, and exclusive use.

import { body, eq, ok, refused } from "./harness.js";

export const scenarios = {
  async a_declared_queue_has_its_name_and_its_counts(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["one", "two"]);
    const consumer = await channel.consume(queue, { prefetch: 1 });
    const again = await channel.declareQueue(queue, { exclusive: true });
    eq(again, { name: queue, messageCount: 1, consumerCount: 1 });
    await consumer.return();
  },

  async declaring_again_with_the_same_settings_changes_nothing(t) {
    const channel = await t.channel();
    const [name, o] = [t.name("queue"), { durable: true, arguments: { "x-max-length": 5, "x-message-ttl": 60_000 } }];
    for (let i = 0; i < 2; i++) await channel.declareQueue(name, o);
    ok(channel.isOpen);
  },

  async declaring_again_with_other_settings_fails_with_406_and_closes_only_the_channel(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const { name } = await channel.declareQueue(t.name("queue"));
    const error = await refused(channel.declareQueue(name, { durable: true }), { kind: "channel-closed", code: 406 });
    ok(error.message.includes("inequivalent arg 'durable'"), error.message);
    eq([channel.isOpen, other.isOpen, session.state], [false, true, "open"]);
    await refused(channel.declareQueue(name), { code: 406 });
    await other.declareQueue(name);
    await (await session.channel()).declareQueue(name);
  },

  async a_passive_declare_finds_a_queue_whatever_its_settings(t) {
    const channel = await t.channel();
    const { name } = await channel.declareQueue(t.name("queue"), { durable: true, arguments: { "x-max-length": 1 } });
    await channel.publish("", name, "here");
    eq((await channel.declareQueue(name, { passive: true })).messageCount, 1);
  },

  async a_passive_declare_of_a_missing_queue_fails_with_404(t) {
    const passive = (await t.channel()).declareQueue(t.name("missing"), { passive: true });
    const error = await refused(passive, { kind: "channel-closed", code: 404 });
    ok(error.message.includes("NOT_FOUND"), error.message);
  },

  async a_queue_without_a_name_gets_one_from_the_broker(t) {
    const session = await t.connect();
    const first = await session.queue("", { exclusive: true });
    const second = await session.queue("", { exclusive: true });
    ok(first.name.startsWith("amq.") && first.name !== second.name, first.name);
    await first.publish("to the first");
    eq((await first.get()).body, "to the first");
  },

  async another_connection_fails_with_405_on_an_exclusive_queue(t) {
    const owner = await t.connect();
    const { name } = await (await owner.channel()).declareQueue(t.name("queue"), { exclusive: true });
    const stranger = await t.connect();
    await refused((await stranger.channel()).consume(name), { code: 405 });
    await refused((await stranger.channel()).declareQueue(name, { exclusive: true }), { code: 405 });
    await (await owner.channel()).declareQueue(name, { exclusive: true });
  },

  async an_exclusive_queue_is_deleted_with_its_connection(t) {
    const owner = await t.connect();
    const { name } = await (await owner.channel()).declareQueue(t.name("queue"), { exclusive: true });
    await owner.close();
    await refused((await t.channel()).declareQueue(name, { passive: true }), { code: 404 });
  },

  async an_auto_delete_queue_is_deleted_with_its_last_consumer(t) {
    const channel = await t.channel();
    const { name } = await channel.declareQueue(t.name("queue"), { autoDelete: true });
    const consumer = await channel.consume(name);
    await channel.declareQueue(name, { passive: true });
    await consumer.cancel();
    await refused(channel.declareQueue(name, { passive: true }), { code: 404 });
  },

  async names_that_begin_with_amq_are_reserved(t) {
    await refused((await t.channel()).declareQueue("amq.mine"), { code: 403 });
  },

  async a_name_over_255_bytes_is_refused_and_the_channel_stays_open(t) {
    const channel = await t.channel();
    const long = "ü".repeat(128);
    const usage = { kind: "usage" };
    await refused(channel.declareQueue(long), usage);
    await refused(channel.consume(long), usage);
    await refused(channel.get(long), usage);
    await refused(channel.bindQueue("q", "x", long), usage);
    const longest = (t.name("queue") + "x".repeat(255)).slice(0, 255);
    eq((await channel.declareQueue(longest, { exclusive: true })).name, longest);
  },

  async names_and_keys_may_be_of_any_script(t) {
    const channel = await t.channel();
    const { name } = await channel.declareQueue(t.name("очередь-待ち行列-🐇"), { exclusive: true });
    const exchange = t.name("échange");
    await channel.declareExchange(exchange, "topic");
    await channel.bindQueue(name, exchange, "größe.*");
    await channel.publish(exchange, "größe.łódź", "ok", { mandatory: true });
    const m = await channel.get(name);
    eq([m.exchange, m.routingKey], [exchange, "größe.łódź"]);
  },

  async a_purge_returns_how_many_messages_it_deleted(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, ["one", "two", "three"]);
    const kept = await channel.get(queue);
    eq(await channel.purgeQueue(queue), 2, "one is unacknowledged");
    kept.nack();
    eq(body(await channel.get(queue)), "one");
    eq(await channel.purgeQueue(queue), 0);
  },

  async a_delete_returns_how_many_messages_were_in_the_queue(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"));
    await Promise.all([queue.publish("one"), queue.publish("two")]);
    eq(await queue.delete(), 2);
    eq(await queue.delete(), 0, "deleting what is not there is no fault");
  },

  async delete_if_empty_requires_an_empty_queue(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"));
    await queue.publish("one");
    await refused(queue.delete({ ifEmpty: true }), { code: 406 });
    eq(await queue.purge(), 1);
    await queue.delete({ ifEmpty: true });
    await refused(session.queue(queue.name, { passive: true }), { code: 404 });
  },

  async delete_if_unused_requires_a_queue_without_consumers(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"));
    const consumer = queue.consume();
    await consumer.ready;
    await refused(queue.delete({ ifUnused: true }), { code: 406 });
    await consumer.cancel();
    await queue.delete({ ifUnused: true });
    await refused(session.queue(queue.name, { passive: true }), { code: 404 });
  },
};
