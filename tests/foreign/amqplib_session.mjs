// A session of amqplib.
import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as after } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const own = randomUUID();
const step = (name) => console.log(`amqplib: ${name}`);
const body = (message) => message.content.toString();

const connection = await amqp.connect(`${process.argv[2]}?heartbeat=2`);
const channel = await connection.createConfirmChannel();
const exchange = `x-${own}`;
await channel.assertExchange(exchange, "topic", { durable: false, autoDelete: true });
const { queue } = await channel.assertQueue("", { exclusive: true });
await channel.bindQueue(queue, exchange, "orders.#");
step("declare and bind");

const headers = { n: 1, s: "text", list: [1, true, null], table: { a: 1.5 } };
const properties = { headers, persistent: true, messageId: "m", timestamp: 7 };
channel.publish(exchange, "orders.eu", Buffer.from("hello"), properties);
const returned = once(channel, "return");
channel.publish(exchange, "elsewhere", Buffer.from("back"), { mandatory: true });
const [back] = await returned;
assert.equal(back.fields.replyCode, 312);
assert.equal(body(back), "back");
await channel.waitForConfirms();
step("publish, return, confirm");

/** Returns the next delivery of a queue, and cancels the consumer. */
async function one(from) {
  let resolve;
  const came = new Promise((done) => (resolve = done));
  const { consumerTag } = await channel.consume(from, resolve);
  const message = await came;
  await channel.cancel(consumerTag);
  return message;
}
const first = await one(queue);
assert.equal(body(first), "hello");
assert.deepEqual(first.properties.headers, headers);
assert.deepEqual([first.properties.messageId, first.properties.timestamp], ["m", 7]);
channel.nack(first);
const again = await channel.get(queue);
assert.ok(again.fields.redelivered && again.fields.messageCount === 0);
channel.ack(again);
assert.equal(await channel.get(queue), false);
step("consume, nack, get, ack");

const mortal = await channel.assertQueue("", {
  exclusive: true,
  messageTtl: 10,
  deadLetterExchange: "",
  deadLetterRoutingKey: queue,
});
channel.sendToQueue(mortal.queue, Buffer.from("late"));
const dead = await one(queue);
assert.equal(dead.properties.headers["x-death"][0].reason, "expired");
assert.equal(dead.properties.headers["x-death"][0].count, 1);
channel.ack(dead);
step("time to live and dead letter");

const overflow = { "x-overflow": "reject-publish" };
const full = await channel.assertQueue("", { exclusive: true, maxLength: 0, arguments: overflow });
await assert.rejects(
  new Promise((resolve, reject) =>
    channel.sendToQueue(full.queue, Buffer.from("no room"), {}, (error) => (error ? reject(error) : resolve())),
  ),
  /nacked/,
);
step("refuse");

const refused = async (code, action) => {
  const other = await connection.createChannel();
  const error = once(other, "error");
  await assert.rejects(action(other));
  const [{ code: received }] = await error;
  assert.equal(received, code);
};
await refused(404, (other) => other.checkQueue(`missing-${own}`));
await refused(406, (other) => other.assertExchange(exchange, "fanout", { durable: false, autoDelete: true }));
await refused(403, (other) => other.assertQueue("amq.mine"));
step("refusals");

await after(4500);
assert.equal((await channel.checkQueue(queue)).messageCount, 0);
step("heartbeats");

const bounded = () => ({ signal: AbortSignal.timeout(20_000) });
for (const deleting of [channel, await connection.createChannel()]) {
  const doomed = await channel.assertQueue("", { exclusive: true });
  let resolve;
  const came = new Promise((done) => (resolve = done));
  await channel.consume(doomed.queue, resolve);
  await deleting.deleteQueue(doomed.queue);
  assert.equal(await came, null);
}
step("queue deletion under a consumer");

await channel.close();
await connection.close();

await assert.rejects(amqp.connect(process.argv[2].replace("guest:guest", "guest:wrong")), /403.*ACCESS-REFUSED/);
step("a refused login");

const broken = await amqp.connect(process.argv[2]);
const failed = once(broken, "error", bounded());
const ended = new Promise((done) => broken.once("close", done));
const sending = await broken.createChannel();
broken.connection.frameMax = 1 << 24;
sending.sendToQueue("nowhere", Buffer.alloc(8_000_000));
assert.equal((await failed)[0].code, 501);
assert.match((await ended).message, /FRAME_ERROR/);
step("a frame that is too large");

const busy = await amqp.connect(process.argv[2]);
const errors = [];
busy.on("error", (error) => errors.push(error));
const closed = once(busy, "close", bounded());
const flow = await busy.createChannel();
const stream = await flow.assertQueue("", { exclusive: true });
let taken = 0;
await flow.consume(stream.queue, () => taken++, { noAck: true });
const source = await busy.createChannel();
const flooding = setInterval(() => {
  for (let sent = 0; sent < 100; sent++) source.sendToQueue(stream.queue, Buffer.alloc(1000));
}, 1);
while (taken < 1000) await after(10);
clearInterval(flooding);
for (let sent = 0; sent < 1000; sent++) source.sendToQueue(stream.queue, Buffer.alloc(1000));
const begun = Date.now();
await busy.close();
await closed;
assert.ok(Date.now() - begun < 15_000, "the close took too long");
assert.deepEqual(errors, []);
step("close under load");
step("close");
