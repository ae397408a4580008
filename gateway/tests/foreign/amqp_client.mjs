// A session of the unchanged npm package @cloudamqp/amqp-client over WebSocket.
import assert from "node:assert/strict";
import { AMQPWebSocketClient } from "@cloudamqp/amqp-client/amqp-websocket-client";

const url = process.argv[2];
const client = new AMQPWebSocketClient(url, "/", "guest", "guest");
const connection = await client.connect();
const channel = await connection.channel();
await channel.confirmSelect();
const { name } = await channel.queueDeclare("", { exclusive: true, autoDelete: false });
const sizes = [0, 1, 3, 4096, 8192, 100_000, 1 << 20];
for (const size of sizes) {
  await channel.basicPublish("", name, new Uint8Array(size).fill(7), { headers: { size }, deliveryMode: 2 });
}
let came = 0;
let acked = 0;
let resolve;
const all = new Promise((done) => (resolve = done));
const consumer = await channel.basicConsume(name, { noAck: false }, async (message) => {
  const size = sizes[came++];
  assert.equal(message.properties.headers.size, size);
  assert.equal(message.body?.length ?? 0, size);
  await message.ack();
  if (++acked === sizes.length) resolve();
});
await all;
await consumer.cancel();
// Many small messages at once, which share WebSocket messages.
const many = 5000;
for (let n = 0; n < many; n++) channel.basicPublish("", name, "x");
let got = 0;
const rest = new Promise((done) => (resolve = done));
await channel.basicConsume(name, { noAck: true }, () => { if (++got === many) resolve(); });
await rest;
// An error closes the channel, and the connection stays open.
const other = await connection.channel();
await assert.rejects(other.queueDeclare("no-such-queue", { passive: true }), /NOT_FOUND/);
await (await connection.channel()).close();
await connection.close();
console.log("done");
