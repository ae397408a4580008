// A session of rabbitmq-client.
import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as after } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import { Connection } from "rabbitmq-client";

const uri = process.argv[2];
const own = randomUUID();
const step = (name) => console.log(`rabbitmq-client: ${name}`);
const bounded = { signal: AbortSignal.timeout(60_000) };
const open = async (heartbeat = 60) => {
  const opened = new Connection({ url: uri, heartbeat, acquireTimeout: 20_000 });
  // Without a listener an error ends the process.
  opened.errors = [];
  opened.on("error", (error) => opened.errors.push(error));
  await opened.onConnect(20_000);
  return opened;
};

const connection = await open(2);
const channel = await connection.acquire();
const exchange = `x-${own}`;
await channel.exchangeDeclare({ exchange, type: "topic", autoDelete: true });
const { queue } = await channel.queueDeclare({ exclusive: true });
await channel.queueBind({ queue, exchange, routingKey: "orders.#" });
step("declare and bind");

await channel.confirmSelect();
const headers = { n: 1, s: "text", list: [1, true, null], table: { a: 1.5 } };
await channel.basicPublish({ exchange, routingKey: "orders.eu", headers, messageId: "m", durable: true }, "hello");
const returned = once(channel, "basic.return", bounded);
await channel.basicPublish({ exchange, routingKey: "elsewhere", mandatory: true }, "back");
const [back] = await returned;
assert.equal(back.replyCode, 312);
assert.equal(back.body, "back");
step("publish, confirm, return");

/** Returns the next delivery of a queue, and cancels the consumer. */
async function one(from) {
  let resolve;
  const came = new Promise((done) => (resolve = done));
  const { consumerTag } = await channel.basicConsume({ queue: from }, resolve);
  const message = await came;
  await channel.basicCancel(consumerTag);
  return message;
}
const first = await one(queue);
assert.equal(first.body, "hello");
assert.deepEqual(first.headers, headers);
assert.deepEqual([first.messageId, first.durable], ["m", true]);
channel.basicNack({ deliveryTag: first.deliveryTag, requeue: true });
const again = await channel.basicGet({ queue });
assert.ok(again.redelivered);
channel.basicAck({ deliveryTag: again.deliveryTag });
assert.equal(await channel.basicGet({ queue }), undefined);
step("consume, nack, get, ack");

await channel.basicPublish(queue, "stays");
assert.equal((await channel.queueDeclare({ queue, passive: true })).messageCount, 1);
assert.equal((await channel.basicGet({ queue, noAck: true })).body, "stays");
step("cancel");

const large = Buffer.alloc(1_000_000, 7);
await channel.basicPublish(queue, large);
assert.deepEqual((await channel.basicGet({ queue, noAck: true })).body, large);
step("a large body");

const dead = { "x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue };
const mortal = await channel.queueDeclare({ exclusive: true, arguments: dead });
await channel.basicPublish(mortal.queue, "late");
const letter = await one(queue);
assert.equal(letter.headers["x-death"][0].reason, "expired");
channel.basicAck({ deliveryTag: letter.deliveryTag });
step("time to live and dead letter");

const full = { "x-max-length": 0, "x-overflow": "reject-publish" };
const refusing = await channel.queueDeclare({ exclusive: true, arguments: full });
await assert.rejects(channel.basicPublish(refusing.queue, "no room"), { code: "NACK" });
step("refuse");

const transacted = await connection.acquire();
await transacted.txSelect();
await transacted.basicPublish(queue, "gone");
await transacted.txRollback();
await transacted.basicPublish(queue, "kept");
await transacted.txCommit();
assert.equal((await channel.basicGet({ queue, noAck: true })).body, "kept");
await transacted.close();
step("transactions");

const refused = async (code, action) => assert.rejects(action(await connection.acquire()), { code });
await refused("NOT_FOUND", (other) => other.queueDeclare({ queue: `missing-${own}`, passive: true }));
await refused("PRECONDITION_FAILED", (other) => other.exchangeDeclare({ exchange, type: "fanout", autoDelete: true }));
await refused("ACCESS_REFUSED", (other) => other.queueDeclare({ queue: "amq.mine" }));
step("refusals");

const other = await connection.acquire();
for (const deleting of [channel, other]) {
  const doomed = await channel.queueDeclare({ exclusive: true });
  const { consumerTag } = await channel.basicConsume({ queue: doomed.queue }, () => {});
  const cancelled = once(channel, "basic.cancel", bounded);
  await deleting.queueDelete({ queue: doomed.queue });
  assert.equal((await cancelled)[0], consumerTag);
}
await other.close();
step("queue deletion under a consumer");

// A consumer that the library renews: its queue is deleted, and it declares and consumes it again.
const renewed = `renewed-${own}`;
const seen = [];
const options = { queue: renewed, queueOptions: { queue: renewed, exclusive: true }, qos: { prefetchCount: 1 } };
const consumer = connection.createConsumer(options, async (message) => void seen.push(message.body));
// The library reports the cancellation as an error.
consumer.on("error", (error) => assert.equal(error.code, "CANCEL_FORCED"));
const ready = () => new Promise((resolve) => consumer.once("ready", resolve));
await ready();
const renewal = ready();
await channel.queueDelete({ queue: renewed });
await renewal;
const publisher = connection.createPublisher({ confirm: true });
await publisher.send(renewed, "after");
while (seen.length < 1) await after(10);
assert.deepEqual(seen, ["after"]);
await publisher.close();
await consumer.close();
step("a renewed consumer");

await after(4500);
assert.equal((await channel.queueDeclare({ queue, passive: true })).messageCount, 0);
assert.ok(connection.ready);
await channel.close();
await connection.close();
assert.deepEqual(connection.errors, []);
step("heartbeats");

const stranger = new Connection({ url: uri.replace("guest:guest", "guest:wrong"), retryLow: 60_000 });
const [refusal] = await once(stranger, "error", { signal: AbortSignal.timeout(20_000) }).catch((error) => [error]);
assert.equal(refusal.code, "ACCESS_REFUSED", refusal);
await stranger.close();
step("a refused login");

const broken = await open();
const sending = await broken.acquire();
sending._state.maxFrameSize = 1 << 24;
await sending.confirmSelect();
await assert.rejects(sending.basicPublish(queue, Buffer.alloc(8_000_000)), { code: "FRAME_ERROR" });
await broken.close();
step("a frame that is too large");

const busy = await open();
const flow = await busy.acquire();
const stream = await flow.queueDeclare({ exclusive: true });
let taken = 0;
await flow.basicConsume({ queue: stream.queue, noAck: true }, () => taken++);
const source = await busy.acquire();
const flood = (async () => {
  const body = Buffer.alloc(1000);
  for (let sent = 1; source.active; sent++) {
    await source.basicPublish(stream.queue, body);
    // Lets timers and sockets have their turn.
    if (sent % 100 === 0) await new Promise(setImmediate);
  }
})();
while (taken < 100) await after(10);
const begun = Date.now();
source.on("error", () => {});
flow.close();
source.close();
await busy.close();
await flood.catch((error) => assert.match(error.code, /^CH_CLOSE|^CLOSING/));
assert.ok(Date.now() - begun < 15_000, "the close took too long");
assert.deepEqual(busy.errors, []);
step("close under load");
step("close");
