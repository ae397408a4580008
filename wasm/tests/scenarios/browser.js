// Scenarios of the npm package alone: sessions that reconnect, and JavaScript's own features.

import { eq, next, ok, refused } from "./harness.js";

const soon = { reconnect: { minMs: 1, maxMs: 20 } };
const event = (session, name) => new Promise((resolve) => session.on(name, resolve));

export const scenarios = {
  async slices_of_every_size_make_the_same_frames(t) {
    for (const size of [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 61, 255, 4096]) {
      const { url } = await t.world.relay(size);
      const session = await t.connect({ url });
      const queue = await session.queue("", { exclusive: true });
      const bytes = Uint8Array.from({ length: 600 }, (_, i) => i % 251);
      await queue.publish(bytes, { headers: { size } });
      const m = await queue.get({ noAck: true });
      eq([[...m.raw], m.properties.headers.size], [[...bytes], size], `slices of ${size}`);
      await session.close();
    }
  },

  async a_session_reconnects_with_its_topology_and_consumers(t) {
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, ...soon });
    const exchange = await session.exchange(t.name("exchange"), "topic", { autoDelete: true });
    const queue = await session.queue("", { exclusive: true });
    await queue.bind(exchange, "a.*");
    const seen = [];
    let more;
    const subscription = await queue.subscribe((m) => {
      seen.push(m.body);
      m.ack();
      more?.();
    });
    const count = async (expected) => {
      while (seen.length < expected) await new Promise((resolve) => (more = resolve));
    };
    await exchange.publish("a.b", { n: 1 });
    await count(1);
    const name = queue.name;
    for (const n of [2, 3]) {
      const [lost, back] = [event(session, "disconnected"), event(session, "reconnected")];
      await t.world.drop(relay.id);
      const error = await lost;
      eq(error.scope, "transport", error.message);
      eq(session.state, "reconnecting");
      // The publish waits for the reconnect.
      const publish = exchange.publish("a.b", { n }, { mandatory: true });
      await back;
      eq(session.state, "open");
      await publish;
      await count(n);
    }
    ok(queue.name !== name, "the broker generated another name");
    eq(seen, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    await subscription.cancel();
  },

  async an_iterator_continues_after_a_reconnect_and_old_acks_have_no_effect(t) {
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, ...soon });
    const queue = await session.queue(t.name("queue"), { durable: true });
    for (const n of [1, 2]) await queue.publish(n);
    const consumer = queue.consume({ prefetch: 1 });
    const first = await next(consumer);
    const back = event(session, "reconnected");
    await t.world.drop(relay.id);
    await back;
    first.ack();
    const again = await next(consumer);
    eq([again.body, again.redelivered], [1, true]);
    again.ack();
    const second = await next(consumer);
    eq(second.body, 2);
    second.ack();
    eq((await consumer.return()).done, true);
  },

  async pending_publishes_settle_when_the_connection_is_lost(t) {
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, ...soon });
    const queue = await session.queue(t.name("queue"), { durable: true });
    const publishes = Array.from({ length: 100 }, (_, i) => queue.publish(i));
    await t.world.drop(relay.id);
    const settled = await Promise.allSettled(publishes);
    for (const { status, reason } of settled) {
      ok(status === "fulfilled" || reason.scope === "transport", reason?.message);
    }
    await queue.publish("after");
  },

  async a_socket_that_breaks_while_full_leaves_no_timer(t) {
    const errors = [];
    // In Node, an uncaught error ends the program.
    globalThis.addEventListener?.("error", (event) => errors.push(event.message));
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, highWaterMark: 64 << 20 });
    const queue = await session.queue("", { exclusive: true });
    const closed = event(session, "closed");
    const publishes = Array.from({ length: 32 }, () => queue.publish(new Uint8Array(1 << 20)));
    const settled = Promise.allSettled(publishes);
    await t.world.drop(relay.id);
    await closed;
    await settled;
    // Longer than the delay of the socket's timer.
    await new Promise((resolve) => setTimeout(resolve, 20));
    eq(errors, []);
  },

  async auth_is_called_at_each_connect(t) {
    const relay = await t.world.relay(65536);
    let calls = 0;
    const auth = async () => ({ username: "guest", password: ++calls > 0 ? "guest" : "" });
    const session = await t.connect({ url: relay.url, auth, ...soon });
    eq(calls, 1);
    const back = event(session, "reconnected");
    await t.world.drop(relay.id);
    await back;
    eq(calls, 2);
  },

  async secrets_are_renewed_before_they_expire(t) {
    let calls = 0;
    let renewed;
    const twice = new Promise((resolve) => (renewed = resolve));
    const auth = () => {
      if (++calls === 2) renewed();
      return { username: "guest", password: "guest", expiresIn: calls === 1 ? 0.05 : 3600 };
    };
    const session = await t.connect({ auth });
    await twice;
    await t.queueWith(await session.channel(), ["goes on"]);
  },

  async a_session_closes_after_its_last_retry(t) {
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, reconnect: { minMs: 1, maxMs: 2, retries: 3 } });
    const attempts = [];
    session.on("reconnecting", ({ attempt }) => attempts.push(attempt));
    const closed = event(session, "closed");
    await t.world.drop(relay.id, true);
    const error = await closed;
    const found = [error.kind, session.state, attempts];
    eq(found, ["websocket", "closed", [1, 2]], "three attempts, with a delay between each two");
    await refused(session.queue("q"), { kind: "websocket" });
  },

  async wait_for_broker_retries_the_first_connect(t) {
    for (const reconnect of [false, soon.reconnect]) {
      const { url } = await t.world.relay("late");
      const session = await t.connect({ url, reconnect, waitForBroker: 30_000 });
      eq(session.state, "open");
    }
    const { url } = await t.world.relay("late");
    await refused(t.connect({ url, ...soon }), { kind: "websocket" });
    await refused(t.connect({ url: "ws://127.0.0.1:1/", waitForBroker: 50, ...soon }), { kind: "websocket" });
    const auth = { username: "guest", password: "wrong" };
    await refused(t.connect({ auth, waitForBroker: 30_000 }), { kind: "authentication" });
  },

  async a_signal_ends_waiting_for_the_broker(t) {
    const abort = new AbortController();
    const waiting = t.connect({ url: "ws://127.0.0.1:1/", signal: abort.signal, waitForBroker: 30_000, ...soon });
    const aborted = refused(waiting, { kind: "aborted" });
    abort.abort();
    await aborted;
  },

  async a_wrong_password_is_not_retried(t) {
    const auth = { username: "guest", password: "wrong" };
    await refused(t.connect({ auth, ...soon }), { kind: "authentication", code: 403 });
  },

  async a_port_without_a_listener_is_reported(t) {
    const error = await refused(t.connect({ url: "ws://127.0.0.1:1/" }), { kind: "websocket" });
    eq([error.name, error.scope, error.code], ["AmqpError", "transport", 0]);
  },

  async a_text_message_ends_the_connection(t) {
    const { url } = await t.world.relay("text");
    const error = await refused(t.connect({ url }));
    ok(error.message.includes("binary"), error.message);
  },

  async a_peer_without_amqp_is_reported(t) {
    const { url } = await t.world.relay("garbage");
    await refused(t.connect({ url }), { kind: "protocol" });
  },

  async a_silent_peer_times_out_during_connect(t) {
    const { url } = await t.world.relay("silent");
    await refused(t.connect({ url, connectTimeout: 50 }), { kind: "timeout" });
  },

  async a_silent_peer_is_disconnected_after_two_heartbeats(t) {
    const relay = await t.world.relay(65536);
    const session = await t.connect({ url: relay.url, heartbeat: 1 });
    const closed = event(session, "closed");
    await t.world.mute(relay.id);
    eq((await closed).kind, "heartbeat");
  },

  async a_signal_ends_connecting(t) {
    const { url } = await t.world.relay("silent");
    const abort = new AbortController();
    const connecting = refused(t.connect({ url, signal: abort.signal }), { kind: "aborted" });
    abort.abort();
    await connecting;
    await refused(t.connect({ signal: AbortSignal.abort() }), { kind: "aborted" });
  },

  async a_signal_closes_the_session(t) {
    const abort = new AbortController();
    const session = await t.connect({ signal: abort.signal });
    const closed = event(session, "closed");
    abort.abort();
    eq([await closed, session.state], [undefined, "closed"]);
  },

  async a_signal_cancels_a_consumer(t) {
    const session = await t.connect();
    const queue = await session.queue("", { exclusive: true });
    const abort = new AbortController();
    const consumer = queue.consume({ signal: abort.signal });
    const waiting = consumer.next();
    await consumer.ready;
    abort.abort();
    eq((await waiting).done, true);
    const late = queue.consume({ signal: abort.signal });
    eq((await late.next()).done, true);
  },

  async sessions_consumers_and_channels_are_disposable(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"), {});
    await queue.publish("kept");
    const consumer = queue.consume();
    await consumer.ready;
    await consumer[Symbol.asyncDispose]();
    const channel = await session.channel();
    await channel[Symbol.asyncDispose]();
    eq(channel.isOpen, false);
    await t.expectReady(await session.channel(), queue.name, 1);
    await session[Symbol.asyncDispose]();
    eq(session.state, "closed");
  },

  async leaving_a_loop_requeues_undelivered_messages(t) {
    const session = await t.connect();
    const queue = await session.queue(t.name("queue"));
    for (let i = 0; i < 10; i++) await queue.publish(i);
    for await (const m of queue.consume({ prefetch: 10 })) {
      m.ack();
      if (m.body === 2) break;
    }
    await t.expectReady(await session.channel(), queue.name, 7);
    eq((await queue.get()).redelivered, true);
  },

  async calls_get_their_own_replies(t) {
    const [server, client] = [await t.connect(), await t.connect()];
    const queue = await server.queue(t.name("service"), { autoDelete: true });
    await using(await queue.serve(async ({ n }) => ({ double: 2 * n })), async () => {
      const rpc = client.rpc(queue.name);
      const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => rpc.call({ n })));
      answers.forEach((answer, n) => eq(answer, { double: 2 * n }));
      await rpc.close();
      await refused(() => rpc.call({ n: 1 }), { kind: "closed" });
    });
  },

  async a_call_without_a_reply_rejects(t) {
    const session = await t.connect();
    await refused(session.rpc(t.name("nowhere")).call(1), { kind: "returned", code: 312 });
    const queue = await session.queue("", { exclusive: true });
    await refused(session.rpc(queue.name, { timeoutMs: 20 }).call(1), { kind: "timeout" });
    const abort = new AbortController();
    const call = refused(session.rpc(queue.name).call(1, { signal: abort.signal }), { kind: "aborted" });
    abort.abort();
    await call;
  },

  async an_error_of_a_handler_is_an_event(t) {
    const session = await t.connect();
    const queue = await session.queue("", { exclusive: true });
    const thrown = event(session, "error");
    await queue.subscribe((m) => {
      m.ack();
      throw new Error(`no ${m.body}`);
    });
    await queue.publish("way");
    eq((await thrown).message, "no way");
  },

  async codecs_encode_and_decode_bodies(t) {
    const session = await t.connect();
    const { json, text, bytes } = t.world.codecs;
    const name = t.name("queue");
    const as = (codec) => session.queue(name, { exclusive: true }, codec);
    await (await as(json())).publish({ a: [1] });
    await (await as(text)).publish("ü");
    await (await as(bytes)).publish(new Uint8Array([9]));
    const asText = await as(text);
    eq((await asText.get({ noAck: true })).body, '{"a":[1]}');
    eq([...(await asText.get({ noAck: true })).raw], [195, 188]);
    await asText.publish("{");
    const odd = await (await as(json())).get({ noAck: true });
    ok(odd.raw.length === 1);
    const broken = await (await as(json())).get({ noAck: true });
    const { message } = await refused(() => broken.body, { kind: "protocol" });
    ok(message.includes(JSON.stringify(name)) && message.includes('"text/plain"'), message);
    const unsendable = [
      [undefined, "undefined can't be sent as JSON"], [() => {}, "a function can't be sent as JSON"],
      [Symbol("s"), "a symbol can't be sent as JSON"], [1n, "a bigint can't be sent as JSON: "],
      [{ n: 1n }, "this object can't be sent as JSON: "],
    ];
    for (const [value, text] of unsendable) {
      const { message } = await refused((await as(json())).publish(value), { kind: "usage" });
      ok(message.startsWith(text), message);
    }
  },

  async try_publish_returns_false_when_the_buffer_is_full(t) {
    const session = await t.connect({ highWaterMark: 100_000 });
    const queue = await session.queue(t.name("queue"), { durable: true });
    await queue.publish("opens the channel");
    const body = new Uint8Array(10_000);
    let sent = 0;
    while (queue.tryPublish(body)) sent++;
    ok(sent >= 9 && sent < 50, `${sent}`);
    await queue.publish("waits for room");
    await t.expectReady(await session.channel(), queue.name, sent + 2);
  },

  async large_and_small_bodies_arrive_in_one_batch(t) {
    const session = await t.connect();
    const queue = await session.queue("", { exclusive: true });
    const sizes = [0, 1, 4095, 4096, 4097, 70_000, 3, 200_000, 5];
    await Promise.all(sizes.map((size, i) => queue.publish(new Uint8Array(size).fill(i))));
    const consumer = queue.consume();
    for (const [i, size] of sizes.entries()) {
      const m = await next(consumer);
      ok(m.raw.length === size && m.raw.every((byte) => byte === i), `${size} bytes`);
      m.ack();
    }
  },

  async next_can_be_called_before_messages_arrive(t) {
    const session = await t.connect();
    const queue = await session.queue("", { exclusive: true });
    const consumer = queue.consume();
    const waiting = Array.from({ length: 5 }, () => consumer.next());
    for (let i = 0; i < 5; i++) await queue.publish(i);
    eq((await Promise.all(waiting)).map(({ value }) => value.body), [0, 1, 2, 3, 4]);
  },
};

/** `await using`, for engines that do not parse it. */
async function using(resource, work) {
  try {
    await work(resource);
  } finally {
    await resource[Symbol.asyncDispose]();
  }
}
