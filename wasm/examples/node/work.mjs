// A worker and its work, in Node 22 and later: `node work.mjs [ws://localhost:15670/ws/amqp]`
// (Node 20: `node --experimental-websocket work.mjs`).

import { connect } from "hopmq";

const url = process.argv[2] ?? "ws://localhost:15670/ws/amqp";
const session = await connect(url, { name: "work.mjs" });
const jobs = await session.queue("hopmq-example-work", { durable: true });

for (let id = 1; id <= 5; id++) await jobs.publish({ id, text: `job ${id}` });
console.log("5 jobs published, and confirmed by the broker");

let done = 0;
for await (const job of jobs.consume({ prefetch: 2 })) {
  console.log(`done: ${job.body.text}`);
  job.ack();
  if (++done === 5) break;
}
await jobs.delete();
await session.close();
