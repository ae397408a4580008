// Publishing: bodies, properties, headers, and returned messages.

import { body, eq, next, ok, refused } from "./harness.js";

const pattern = (size, modulus) => Uint8Array.from({ length: size }, (_, i) => i % modulus);

function same(got, expected, what) {
  ok(got.length === expected.length, `${what}: ${got.length} bytes are not ${expected.length}`);
  ok(got.every((byte, i) => byte === expected[i]), `${what}: other bytes`);
}

async function thereAndBack(channel, queue, bytes) {
  await channel.publish("", queue, bytes);
  const m = await channel.get(queue);
  m.ack();
  same(m.raw, bytes, `${bytes.length} bytes`);
}

export const scenarios = {
  async a_message_that_is_sent_arrives(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue);
    await channel.send("", queue, "hello");
    const m = await next(consumer);
    eq([body(m), m.exchange, m.routingKey, m.properties], ["hello", "", queue, {}]);
    m.ack();
  },

  async the_bytes_of_names_and_properties_can_be_read(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const properties = { contentType: "a/ü", headers: { h: 1 }, priority: 3, timestamp: new Date(0), appId: "app" };
    await channel.publish("", queue, "hello", properties);
    const m = await channel.get(queue, { noAck: true });
    const utf8 = new TextEncoder();
    const all = { exchange: "", routingKey: queue, contentType: "a/ü", appId: "app" };
    for (const [name, expected] of Object.entries(all)) same(m.bytesOf(name), utf8.encode(expected), name);
    eq([m.bytesOf("messageId"), m.bytesOf("clusterId")], [undefined, undefined]);
  },

  async messages_get_unique_ids_if_the_option_is_set(t) {
    const ids = [];
    for (const messageIds of [true, true, false]) {
      const session = await t.connect({ messageIds });
      const queue = await session.queue("", { exclusive: true });
      await queue.publish("one");
      await queue.publish("two", { messageId: "mine" });
      await queue.publish("three");
      for (let i = 0; i < 3; i++) ids.push((await queue.get({ noAck: true })).properties.messageId);
    }
    eq([ids[1], ids[4], ids[6], ids[7], ids[8]], ["mine", "mine", undefined, "mine", undefined]);
    const made = [ids[0], ids[2], ids[3], ids[5]];
    ok(new Set(made).size === 4 && made.every((id) => /^[0-9a-f]{32}-\d+$/.test(id)), `ids of their own: ${made}`);
  },

  async a_body_may_have_any_byte_type(t) {
    const session = await t.connect();
    const queue = await session.queue("", { exclusive: true });
    const all = [new Uint8Array([1, 2]), "text", { json: [1, null, "ü"] }, [1, 2], 7, true, null];
    for (const value of all) await queue.publish(value);
    for (const value of all) {
      const m = await queue.get({ noAck: true });
      eq(m.body, value);
      ok(m.raw instanceof Uint8Array);
    }
    await queue.publish(new ArrayBuffer(3));
    eq([...(await queue.get()).body], [0, 0, 0]);
    await refused(queue.publish(undefined), { kind: "usage" });
  },

  async bodies_of_every_size_around_a_frame_arrive_complete(t) {
    const session = await t.connect({ frameMax: 4096 });
    eq(session.agreed.frameMax, 4096);
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const room = 4096 - 8;
    for (const size of [0, 1, room - 1, room, room + 1, 2 * room, 2 * room + 1, 100_000]) {
      await thereAndBack(channel, queue, pattern(size, 251));
    }
  },

  async a_body_of_a_mebibyte_arrives_complete(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const room = session.agreed.frameMax - 8;
    for (const size of [room - 1, room, room + 1, 1 << 20]) await thereAndBack(channel, queue, pattern(size, 253));
  },

  async a_body_of_16_mebibytes_reaches_a_consumer_complete(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const bytes = new Uint8Array(16 << 20).fill(7);
    const consumer = await channel.consume(queue);
    await channel.publish("", queue, bytes);
    const m = await next(consumer);
    same(m.raw, bytes, "16 MiB");
    m.ack();
  },

  async all_fourteen_properties_survive_a_round_trip(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const all = {
      contentType: "text/plain", contentEncoding: "gzip", headers: { tenant: "acme" }, deliveryMode: 2, priority: 7,
      correlationId: "correlation", replyTo: "replies", expiration: "60000", messageId: "message",
      timestamp: new Date(1_234_567_890_000), type: "order.created", userId: "guest", appId: "shop",
      clusterId: "cluster",
    };
    await channel.publish("", queue, "all", all);
    const got = (await channel.get(queue)).properties;
    eq(got, all);
    ok(got.timestamp instanceof Date);
  },

  async headers_of_every_type_keep_value_and_order(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const headers = {
      void: null, yes: true, no: false, small: -8, i32: -(2 ** 31), beyond: 2 ** 31, largest: Number.MAX_SAFE_INTEGER,
      i64: -(2n ** 63n), real: -2.25, string: "größe 🐇", empty: "", bytes: new Uint8Array([0, 255]),
      time: new Date(1_700_000_000_000), array: [1, "two", { z: 1, a: "two" }, null, [true]], table: { z: 1, a: "two" },
      __proto__x: "kept",
    };
    await channel.publish("", queue, "", { headers });
    const got = (await channel.get(queue)).properties.headers;
    eq(got, headers);
    eq(got.i64, -(2n ** 63n));
    ok(got.time instanceof Date && got.bytes instanceof Uint8Array);
  },

  async a_message_that_cannot_be_encoded_is_refused_and_the_channel_stays_open(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const long = "x".repeat(256);
    const usage = { kind: "usage" };
    await refused(channel.publish("", long, "key"), usage);
    await refused(channel.publish(long, "", "exchange"), usage);
    await refused(channel.publish("", queue, "", { correlationId: long }), usage);
    await refused(channel.publish("", queue, "", { headers: { [long]: 1 } }), usage);
    await refused(channel.publish("", queue, "", { headers: { large: "x".repeat(200_000) } }), usage);
    await refused(channel.publish("", queue, "", { headers: { odd: () => {} } }), usage);
    await refused(channel.publish("", queue, "", { priority: 256 }), usage);
    await channel.publish("", queue, "fine");
    await t.expectReady(channel, queue, 1);
  },

  async the_confirm_of_an_unroutable_mandatory_message_fails_with_the_message(t) {
    const channel = await t.channel();
    const publish = channel.publish("amq.direct", "nowhere", "come back", { mandatory: true });
    const error = await refused(publish, { kind: "returned", code: 312 });
    ok(error.message.includes("NO_ROUTE"), error.message);
    eq(error.scope, "message");
    await channel.publish("amq.direct", "nowhere", "dropped");
  },

  async an_unconfirmed_mandatory_message_is_returned_by_returns(t) {
    const channel = await t.channel();
    const returned = [];
    const both = new Promise((resolve) => {
      channel.onReturn((back) => {
        returned.push([back.code, back.reason, body(back.message), back.message.routingKey]);
        if (returned.length === 2) resolve();
      });
    });
    for (const text of ["one", "two"]) await channel.send("amq.direct", "nowhere", text, { mandatory: true });
    await both;
    eq(returned, [[312, "NO_ROUTE", "one", "nowhere"], [312, "NO_ROUTE", "two", "nowhere"]]);
  },

  async each_returned_message_is_reported_to_its_publish(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const publishes = Array.from({ length: 200 }, (_, i) => {
      const key = i % 3 === 0 ? "nowhere" : queue;
      return channel.publish("", key, String(i), { mandatory: i % 6 !== 5 });
    });
    const outcomes = await Promise.allSettled(publishes);
    outcomes.forEach((outcome, i) => {
      if (i % 3 === 0) eq(outcome.reason?.kind, "returned", `publish ${i}`);
      else eq(outcome.status, "fulfilled", `publish ${i}`);
    });
    await t.expectReady(channel, queue, 133);
  },

  async publishing_waits_while_the_buffer_is_full_and_loses_no_message(t) {
    const session = await t.connect({ highWaterMark: 1 });
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const body = (i) => new Uint8Array(i * 100).fill(i);
    const publishes = Array.from({ length: 300 }, (_, i) => channel.publish("", queue, body(i)));
    await Promise.all(publishes);
    for (let i = 0; i < 300; i++) {
      const m = await channel.get(queue);
      same(m.raw, new Uint8Array(i * 100).fill(i), `message ${i}`);
      m.ack();
    }
  },

  async publishing_with_the_user_id_of_another_user_fails_with_406(t) {
    const publish = (await t.channel()).publish("", "nowhere", "", { userId: "another-user" });
    await refused(publish, { kind: "channel-closed", code: 406 });
  },
};
