// Queue arguments: the effect of each.

import { body, eq, next, ok, refused } from "./harness.js";

async function deadLetterQueue(t, channel) {
  const queue = await t.queueWith(channel, []);
  const exchange = t.name("dead");
  await channel.declareExchange(exchange, "fanout");
  await channel.bindQueue(queue, exchange);
  return [queue, exchange];
}

const death = (message) => message.properties.headers["x-death"][0];

async function declare(t, channel, args, o = { exclusive: true }) {
  return (await channel.declareQueue(t.name("queue"), { ...o, arguments: args })).name;
}

export const scenarios = {
  async messages_expire_after_the_time_to_live_of_the_queue(t) {
    const channel = await t.channel();
    const [dead, exchange] = await deadLetterQueue(t, channel);
    const queue = await declare(t, channel, { "x-message-ttl": 1, "x-dead-letter-exchange": exchange });
    const consumer = await channel.consume(dead);
    await channel.publish("", queue, "late");
    const m = await next(consumer);
    eq([body(m), m.routingKey], ["late", queue]);
    eq([death(m).queue, death(m).reason, death(m).count], [queue, "expired", 1]);
    m.ack();
  },

  async a_message_expires_after_its_own_time_to_live(t) {
    const channel = await t.channel();
    const [dead, exchange] = await deadLetterQueue(t, channel);
    const queue = await declare(t, channel, { "x-dead-letter-exchange": exchange });
    const consumer = await channel.consume(dead);
    await channel.publish("", queue, "late", { expiration: "1" });
    await channel.publish("", queue, "not late");
    const m = await next(consumer);
    eq(death(m).reason, "expired");
    eq(m.properties.headers["x-death"].length, 1);
    eq(body(await channel.get(queue)), "not late");
  },

  async an_unused_queue_expires(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const exchange = t.name("exchange");
    await channel.declareExchange(exchange, "fanout", { autoDelete: true });
    const queue = t.name("queue");
    // Concurrently, so that the queue can't expire before the binding on a slow machine.
    const declared = channel.declareQueue(queue, { arguments: { "x-expires": 2000 } });
    await Promise.all([declared, channel.bindQueue(queue, exchange)]);
    for (;;) {
      try {
        await channel.declareExchange(exchange, "fanout", { passive: true });
      } catch {
        break;
      }
    }
    await refused((await session.channel()).declareQueue(queue, { passive: true }), { code: 404 });
  },

  async a_full_queue_drops_its_oldest_message(t) {
    const channel = await t.channel();
    const [dead, exchange] = await deadLetterQueue(t, channel);
    const args = { "x-max-length": 2, "x-overflow": "drop-head", "x-dead-letter-exchange": exchange };
    const queue = await declare(t, channel, args);
    const consumer = await channel.consume(dead);
    for (const text of ["1", "2", "3"]) await channel.publish("", queue, text);
    const m = await next(consumer);
    eq([body(m), death(m).reason], ["1", "maxlen"]);
    await t.expectReady(channel, queue, 2);
  },

  async a_queue_at_its_byte_limit_drops_its_oldest_message(t) {
    const channel = await t.channel();
    const queue = await declare(t, channel, { "x-max-length-bytes": 10 });
    await channel.publish("", queue, "12345");
    await channel.publish("", queue, "67890");
    await t.expectReady(channel, queue, 2);
    await channel.publish("", queue, "x");
    eq(body(await channel.get(queue)), "67890");
  },

  async a_full_queue_may_dead_letter_rejected_publishes(t) {
    const channel = await t.channel();
    const [dead, exchange] = await deadLetterQueue(t, channel);
    const args = { "x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": exchange };
    const queue = await declare(t, channel, args);
    const consumer = await channel.consume(dead);
    await channel.publish("", queue, "1");
    await refused(channel.publish("", queue, "2"), { kind: "nacked" });
    eq(body(await next(consumer)), "2");
  },

  async rejected_messages_go_to_the_dead_letter_exchange_with_its_key(t) {
    const channel = await t.channel();
    const dead = await t.queueWith(channel, []);
    const args = { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead };
    const queue = await declare(t, channel, args);
    const consumer = await channel.consume(dead);
    for (const kept of [1, 2]) {
      await channel.publish("", queue, "bad", { headers: { kept } });
      (await channel.get(queue)).reject();
      const m = await next(consumer);
      eq([death(m).queue, death(m).reason, death(m).count], [queue, "rejected", 1]);
      eq(m.properties.headers.kept, kept);
      m.ack();
    }
  },

  async a_priority_queue_delivers_by_priority(t) {
    const channel = await t.channel();
    const queue = await declare(t, channel, { "x-max-priority": 5 });
    const all = { low: 1, high: 5, middle: 3, "above all": 9, lowest: 0 };
    for (const [text, priority] of Object.entries(all)) await channel.publish("", queue, text, { priority });
    for (const text of ["high", "above all", "middle", "low", "lowest"]) eq(body(await channel.get(queue)), text);
  },

  async the_next_single_active_consumer_takes_over(t) {
    const channel = await t.channel();
    const queue = await declare(t, channel, { "x-single-active-consumer": true });
    const first = await channel.consume(queue);
    const second = await channel.consume(queue, { arguments: { "x-priority": 10 } });
    for (const text of ["1", "2"]) {
      await channel.publish("", queue, text);
      (await next(first)).ack();
    }
    await first.cancel();
    await channel.publish("", queue, "3");
    const m = await next(second);
    eq(body(m), "3");
    m.ack();
  },

  async a_quorum_queue_dead_letters_a_message_at_its_delivery_limit(t) {
    const channel = await t.channel();
    const [dead, exchange] = await deadLetterQueue(t, channel);
    const args = { "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": exchange };
    const queue = await declare(t, channel, args, { durable: true });
    const consumer = await channel.consume(queue);
    const buried = await channel.consume(dead);
    await channel.publish("", queue, "poison");
    for (let i = 0; i < 3; i++) (await next(consumer)).reject({ requeue: true });
    const m = await next(buried);
    eq([body(m), death(m).reason], ["poison", "delivery_limit"]);
  },

  async a_quorum_queue_forwards_dead_letters_at_least_once(t) {
    const channel = await t.channel();
    const dead = await declare(t, channel, { "x-queue-type": "quorum" }, { durable: true });
    const args = {
      "x-queue-type": "quorum", "x-overflow": "reject-publish", "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": dead, "x-dead-letter-strategy": "at-least-once", "x-quorum-initial-group-size": 1,
    };
    const queue = await declare(t, channel, args, { durable: true });
    const buried = await channel.consume(dead);
    await channel.publish("", queue, "bad");
    (await next(await channel.consume(queue))).reject();
    const m = await next(buried);
    eq(body(m), "bad");
    m.ack();
  },

  async each_consumer_reads_a_stream_from_its_own_offset(t) {
    const channel = await t.channel();
    const args = {
      "x-queue-type": "stream", "x-max-age": "1D", "x-stream-max-segment-size-bytes": 1_000_000,
      "x-queue-leader-locator": "client-local",
    };
    const stream = await declare(t, channel, args, { durable: true });
    for (const text of ["0", "1", "2"]) await channel.publish("", stream, text);
    for (const from of [0, 2]) {
      const consumer = await channel.consume(stream, { prefetch: 10, arguments: { "x-stream-offset": BigInt(from) } });
      for (let i = from; i < 3; i++) {
        const m = await next(consumer);
        eq([body(m), m.properties.headers["x-stream-offset"]], [String(i), i]);
        m.ack();
      }
    }
  },

  async the_broker_checks_every_argument_of_a_classic_queue(t) {
    const session = await t.connect();
    const full = {
      "x-queue-type": "classic", "x-message-ttl": 60_000, "x-expires": 60_000, "x-max-length": 9,
      "x-max-length-bytes": 9, "x-overflow": "reject-publish", "x-dead-letter-exchange": "amq.direct",
      "x-dead-letter-routing-key": "key", "x-max-priority": 9, "x-single-active-consumer": true, "x-queue-mode": "lazy",
    };
    const other = {
      "x-overflow": "drop-head", "x-dead-letter-exchange": "amq.fanout", "x-dead-letter-routing-key": "other",
      "x-queue-mode": "default", "x-single-active-consumer": false,
    };
    for (const argument of Object.keys(full).filter((key) => key !== "x-queue-type")) {
      const channel = await session.channel();
      const name = await declare(t, channel, full, {});
      const changed = { ...full, [argument]: other[argument] ?? 8 };
      const error = await refused(channel.declareQueue(name, { arguments: changed }), { code: 406 });
      ok(error.message.includes(`inequivalent arg '${argument}'`), error.message);
    }
  },
};
