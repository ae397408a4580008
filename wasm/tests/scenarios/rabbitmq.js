// Scenarios that need RabbitMQ's management API or `rabbitmqctl`.

import { body, eq, ok, refused } from "./harness.js";

/** Waits until the management API lists the connection named `name`, and returns the API's own name for it. */
async function managementName(t, name) {
  for (;;) {
    const list = JSON.parse(await t.world.http("GET", "/api/connections?columns=name,user_provided_name"));
    const listed = list.find((entry) => entry.user_provided_name === name);
    if (listed !== undefined) return listed.name;
  }
}

async function kill(t, name) {
  await t.world.http("DELETE", `/api/connections/${encodeURIComponent(await managementName(t, name))}`);
}

export const scenarios = {
  async the_broker_shows_a_connection_by_its_name(t) {
    const name = t.name("order service");
    await t.connect({ name });
    ok((await managementName(t, name)).includes(" -> "));
  },

  async waiting_calls_fail_with_320_when_the_broker_closes_the_connection(t) {
    const name = t.name("connection");
    const session = await t.connect({ name });
    const channel = await session.channel();
    const queue = await t.queueWith(channel, []);
    const consumer = await channel.consume(queue);
    const closed = new Promise((resolve) => session.on("closed", resolve));
    const gone = { kind: "connection-closed", code: 320 };
    const waiting = refused(consumer.next(), gone);
    await kill(t, name);
    eq((await closed).code, 320);
    await waiting;
    await refused(channel.get("any"), gone);
    await refused(channel.send("", "any", ""), gone);
    await refused(channel.publish("", "any", ""), gone);
    await refused(session.channel(), gone);
  },
};

/** Run one at a time, because they block the publishes of all connections. */
export const alone = {
  async publishing_waits_during_a_memory_alarm_and_other_calls_continue(t) {
    const owner = await t.channel();
    const { name } = await owner.declareQueue(t.name("queue"));
    const session = await t.connect();
    const channel = await session.channel();
    await channel.publish("", name, "before");
    const blocked = new Promise((resolve) => session.on("blocked", resolve));
    const unblocked = new Promise((resolve) => session.on("unblocked", resolve));
    await t.world.alarm(true);
    try {
      await channel.send("", name, "the last one");
      ok((await blocked).includes("memory"));
      ok(session.blocked.includes("memory"));
      eq(channel.trySend("", name, "too late"), false);
      const waiting = channel.publish("", name, "waiting");
      const m = await owner.get(name);
      eq(body(m), "before");
      m.ack();
      eq(session.state, "open");
      await t.world.alarm(false);
      await unblocked;
      await waiting;
    } finally {
      await t.world.alarm(false);
    }
    await channel.publish("", name, "after");
    for (const text of ["the last one", "waiting", "after"]) eq(body(await owner.get(name, { noAck: true })), text);
  },

  async blocked_publishes_fail_when_the_connection_ends(t) {
    const name = t.name("connection");
    const session = await t.connect({ name });
    const channel = await session.channel();
    await managementName(t, name);
    const blocked = new Promise((resolve) => session.on("blocked", resolve));
    await t.world.alarm(true);
    try {
      await channel.send("", "nowhere", "");
      await blocked;
      const waiting = refused(channel.publish("", "nowhere", ""), { kind: "connection-closed", code: 320 });
      await kill(t, name);
      await waiting;
    } finally {
      await t.world.alarm(false);
    }
  },
};
