// A session of @cloudamqp/amqp-client, over TCP.
import assert from "node:assert/strict";
import { setTimeout as after } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import { AMQPClient } from "@cloudamqp/amqp-client";

const own = randomUUID();
const step = (name) => console.log(`amqp-client: ${name}`);

const client = new AMQPClient(`${process.argv[2]}?heartbeat=2`);
const connection = await client.connect();
const channel = await connection.channel();
const exchange = `x-${own}`;
await channel.exchangeDeclare(exchange, "topic", { durable: false, autoDelete: true });
const { name } = await channel.queueDeclare("", { exclusive: true, autoDelete: false });
await channel.queueBind(name, exchange, "orders.#");
step("declare and bind");

await channel.confirmSelect();
let returned;
channel.onReturn = (message) => (returned = message);
const headers = { n: 1, s: "text", table: { a: 1.5 } };
await channel.basicPublish(exchange, "orders.eu", "hello", { headers, messageId: "m", deliveryMode: 2 });
await channel.basicPublish(exchange, "elsewhere", "back", {}, true);
assert.equal(returned.replyCode, 312);
assert.equal(returned.bodyString(), "back");
step("publish, confirm, return");

/** Returns the next delivery of a queue, and cancels the consumer. */
async function one(from) {
  let resolve;
  const came = new Promise((done) => (resolve = done));
  const consumer = await channel.basicConsume(from, { noAck: false }, resolve);
  const message = await came;
  await consumer.cancel();
  return message;
}
const first = await one(name);
assert.equal(first.bodyString(), "hello");
assert.deepEqual(first.properties.headers, headers);
await first.nack(true);
const again = await channel.basicGet(name, { noAck: false });
assert.ok(again.redelivered && again.properties.messageId === "m");
await again.ack();
assert.equal(await channel.basicGet(name, { noAck: true }), null);
step("consume, nack, get, ack");

const letters = { "x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name };
const mortal = await channel.queueDeclare("", { exclusive: true, autoDelete: false }, letters);
await channel.basicPublish("", mortal.name, "late");
const dead = await one(name);
assert.equal(dead.properties.headers["x-death"][0].reason, "expired");
await dead.ack();
step("time to live and dead letter");

const transacted = await connection.channel();
await transacted.txSelect();
await transacted.basicPublish("", name, "gone");
await transacted.txRollback();
await transacted.basicPublish("", name, "kept");
await transacted.txCommit();
assert.equal((await channel.basicGet(name, { noAck: true })).bodyString(), "kept");
step("transactions");

await assert.rejects((await connection.channel()).queueDeclare(`missing-${own}`, { passive: true }), /404|NOT_FOUND/);
const kind = { durable: false, autoDelete: true };
await assert.rejects((await connection.channel()).exchangeDeclare(exchange, "fanout", kind), /inequivalent arg 'type'/);
step("refusals");

const large = new Uint8Array(1_000_000).fill(7);
await channel.basicPublish("", name, large);
assert.deepEqual((await channel.basicGet(name, { noAck: true })).body, large);
step("a large body");

await after(4500);
assert.equal((await channel.queueDeclare(name, { passive: true })).messageCount, 0);
step("heartbeats");

const other = await connection.channel();
for (const deleting of [channel, other]) {
  const doomed = await channel.queueDeclare("", { exclusive: true, autoDelete: false });
  const consumer = await channel.basicConsume(doomed.name, {}, () => {});
  const cancelled = assert.rejects(consumer.wait(20_000), /cancelled by the server/);
  await deleting.queueDelete(doomed.name);
  await cancelled;
}
step("queue deletion under a consumer");

await connection.close();

await assert.rejects(new AMQPClient(process.argv[2].replace("guest:guest", "guest:wrong")).connect(), /ACCESS_REFUSED/);
step("a refused login");

const broken = new AMQPClient(process.argv[2]);
const failed = new Promise((resolve) => (broken.onerror = resolve));
await broken.connect();
const sending = await broken.channel();
broken.frameMax = 1 << 24;
sending.basicPublish("", "nowhere", new Uint8Array(8_000_000)).catch(() => {});
assert.match(String(await failed), /FRAME_ERROR/);
step("a frame that is too large");

const errors = [];
const busy = new AMQPClient(process.argv[2]);
busy.onerror = (error) => errors.push(error);
await busy.connect();
const flow = await busy.channel();
const stream = await flow.queueDeclare("", { exclusive: true, autoDelete: false });
let taken = 0;
await flow.basicConsume(stream.name, { noAck: true }, () => taken++);
const source = await busy.channel();
for (let sent = 0; sent < 5000 || taken < 100; sent++) await source.basicPublish("", stream.name, new Uint8Array(1000));
const begun = Date.now();
await busy.close();
assert.ok(Date.now() - begun < 15_000, "the close took too long");
assert.deepEqual(errors, []);
step("close under load");
step("close");
