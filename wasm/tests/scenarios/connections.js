// Connections: opening, closing, and negotiation with the broker.

import { body, eq, next, ok, refused } from "./harness.js";

export const scenarios = {
  async a_connection_has_the_server_properties_and_the_agreed_limits(t) {
    const session = await t.connect();
    const { server, frameMax, channelMax } = session.agreed;
    eq(typeof server.product, "string");
    ok(frameMax >= 4096 && channelMax > 0);
    eq(session.state, "open");
  },

  async the_broker_accepts_the_heartbeat_interval_of_the_client(t) {
    eq((await t.connect({ heartbeat: 7 })).agreed.heartbeat, 7);
    eq((await t.connect({ heartbeat: 0 })).agreed.heartbeat, 0);
  },

  async closing_sends_accepted_publishes_and_awaits_their_confirms(t) {
    const watcher = await t.channel();
    const { name } = await watcher.declareQueue(t.name("queue"));
    const session = await t.connect();
    const channel = await session.channel();
    const confirms = Array.from({ length: 500 }, (_, i) => channel.publish("", name, String(i)));
    await session.close();
    await Promise.all(confirms);
    await t.expectReady(watcher, name, 500);
  },

  async closing_sends_accepted_publishes_without_confirms(t) {
    const watcher = await t.channel();
    const { name } = await watcher.declareQueue(t.name("queue"));
    const session = await t.connect();
    const channel = await session.channel();
    for (let i = 0; i < 500; i++) await channel.send("", name, String(i));
    await session.close();
    const consumer = await watcher.consume(name);
    for (let i = 0; i < 500; i++) {
      const m = await next(consumer);
      eq(body(m), String(i));
      m.ack();
    }
  },

  async closing_a_closed_connection_succeeds(t) {
    const session = await t.connect();
    await Promise.all([session.close(), session.close()]);
    await session.close();
    eq(session.state, "closed");
  },

  async calls_on_a_closed_connection_fail(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await session.queue("", { exclusive: true });
    await session.close();
    const closed = { kind: "closed" };
    await refused(session.channel(), closed);
    await refused(session.queue("q"), closed);
    await refused(queue.publish("x"), closed);
    await refused(channel.declareQueue("q"), closed);
    await refused(channel.send("", "q", ""), closed);
    await refused(session.updateSecret("secret"), closed);
  },

  async waiting_calls_end_when_the_connection_is_closed(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue);
    const waiting = refused(consumer.next(), { kind: "closed" });
    const closed = new Promise((resolve) => session.on("closed", resolve));
    await session.close();
    await waiting;
    eq(await closed, undefined);
  },

  async an_invalid_uri_is_reported_without_its_password(t) {
    for (const url of ["http//user:pa55word@host", "amqp://user:pa55word@host", "ws://user:pa55word@127.0.0.1:1/"]) {
      const error = await refused(t.connect({ url }));
      ok(["config", "websocket"].includes(error.kind), error.kind);
      ok(!`${error} ${error.stack} ${JSON.stringify(error)}`.includes("pa55word"), error.message);
    }
    await refused(t.connect({ frameMax: 4095 }), { kind: "config" });
  },

  async a_secret_may_be_updated(t) {
    const session = await t.connect();
    await session.updateSecret("guest");
    await t.queueWith(await session.channel(), ["goes on"]);
  },

  async sixteen_tasks_share_one_connection(t) {
    const session = await t.connect();
    const work = async (index) => {
      const channel = await session.channel();
      const queue = await t.queueWith(channel, []);
      const consumer = await channel.consume(queue, { prefetch: 10 });
      for (let i = 0; i < 50; i++) {
        await channel.publish("", queue, `${index} ${i}`);
        const m = await next(consumer);
        eq(body(m), `${index} ${i}`);
        m.ack();
      }
      await channel.close();
    };
    await Promise.all(Array.from({ length: 16 }, (_, index) => work(index)));
    const { published, confirmed, delivered, acked } = session.stats;
    eq([published, confirmed, delivered, acked], [800, 800, 800, 800]);
  },

  async stats_count_what_a_connection_did(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await t.queueWith(channel, ["1", "2", "3"]);
    await refused(channel.publish("", "nowhere", "", { mandatory: true }), { kind: "returned" });
    (await channel.get(queue)).ack();
    (await channel.get(queue)).nack({ requeue: false });
    (await channel.get(queue)).reject();
    await channel.flow(true);
    const { published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived } = session.stats;
    eq([published, confirmed, nacked, delivered, acked, rejected], [4, 4, 0, 3, 1, 2]);
    ok(bytesSent > 300 && bytesReceived > 300);
  },

  async a_slow_consumer_without_a_prefetch_loses_nothing(t) {
    const owner = await t.channel();
    const { name } = await owner.declareQueue(t.name("queue"));
    const channel = await t.channel();
    const consumer = await channel.consume(name, { noAck: true });
    const payload = new Uint8Array(50_000);
    for (let i = 0; i < 400; i++) await owner.publish("", name, payload);
    for (let i = 1; i <= 400; i++) {
      const m = await next(consumer);
      eq([m.deliveryTag, m.raw.length], [i, 50_000]);
    }
  },
};
