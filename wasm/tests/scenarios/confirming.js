// Publisher confirms: successes and failures.

import { body, eq, next, refused } from "./harness.js";

export const scenarios = {
  async a_thousand_confirms_are_awaited_in_any_order(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const confirms = Array.from({ length: 1000 }, (_, i) => channel.publish("", queue, String(i)));
    while (confirms.length > 0) await confirms.splice(Math.floor((confirms.length * 7) / 11), 1)[0];
    await t.expectReady(channel, queue, 1000);
    eq(session.stats.confirmed, 1000);
  },

  async ignored_confirms_do_not_disturb_the_others(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    await channel.send("", queue, "before confirms are on");
    channel.publish("", queue, "not awaited");
    await channel.send("", queue, "not asked for");
    const publish = channel.publish("", "nowhere", "returned", { mandatory: true });
    const returned = refused(publish, { kind: "returned", code: 312 });
    channel.publish("", "nowhere", "returned and not awaited", { mandatory: true }).catch(() => {});
    await channel.publish("", queue, "last");
    await returned;
    await t.expectReady(channel, queue, 4);
  },

  async a_full_queue_that_rejects_publishes_fails_the_confirm(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const args = { "x-max-length": 1, "x-overflow": "reject-publish" };
    const { name } = await channel.declareQueue(t.name("queue"), { exclusive: true, arguments: args });
    await channel.publish("", name, "fits");
    await refused(channel.publish("", name, "does not"), { kind: "nacked" });
    (await channel.get(name)).ack();
    await channel.publish("", name, "fits again");
    const { published, confirmed, nacked } = session.stats;
    eq([published, confirmed, nacked], [3, 2, 1]);
  },

  async publishing_to_a_missing_exchange_ends_the_channel_with_404(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const name = t.name("missing");
    const publishes = ["one", "two"].map((text) => channel.publish(name, "", text));
    for (const publish of await Promise.allSettled(publishes)) {
      eq([publish.reason.kind, publish.reason.code], ["channel-closed", 404]);
    }
    await refused(channel.send("", "anywhere", ""), { code: 404 });
    await refused(channel.get("anything"), { code: 404 });
    const queue = await t.queueWith(other, ["the other channel goes on"]);
    await t.expectReady(other, queue, 1);
  },

  async a_publish_that_was_confirmed_before_its_channel_ended_stays_confirmed(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    const early = channel.publish("", queue, "early");
    await channel.publish("", queue, "confirmed after the first");
    await refused(channel.declareQueue(t.name("missing"), { passive: true }), { code: 404 });
    await early;
  },

  async a_confirm_ends_when_its_channel_is_closed(t) {
    const session = await t.connect();
    const channel = await session.channel();
    const { name } = await channel.declareQueue(t.name("queue"), { durable: true });
    const confirm = channel.publish("", name, "x", { deliveryMode: 2 }).catch((error) => eq(error.kind, "closed"));
    await channel.close();
    await confirm;
    await t.expectReady(await session.channel(), name, 1);
  },

  async persistent_messages_to_a_durable_quorum_queue_are_confirmed(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"), { durable: true, arguments: { "x-queue-type": "quorum" } });
    await Promise.all(Array.from({ length: 100 }, (_, i) => queue.publish(String(i))));
    const consumer = queue.consume();
    for (let i = 0; i < 100; i++) {
      const m = await next(consumer);
      eq([m.body, m.properties.deliveryMode], [String(i), 2]);
      m.ack();
    }
    eq(body({ raw: new Uint8Array() }), "");
  },
};
