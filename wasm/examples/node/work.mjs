// A work queue: `node work.mjs [ws://localhost:15670/ws/amqp] [TOKEN]`, in Node 22 and later
// (Node 20: `node --experimental-websocket work.mjs`).

import { connect, json } from "hopmq";

const url = process.argv[2] ?? "ws://localhost:15670/ws/amqp";
const token = process.argv[3];
const session = await connect(url, { name: "work.mjs", auth: token === undefined ? undefined : { token } });
const jobs = await session.queue("hopmq-example-work", { durable: true }, json());

for (let id = 1; id <= 5; id++) {
  await jobs.publish({ id, text: `job ${id}` }, { headers: { attempt: 1 } });
}
console.log("5 jobs published and confirmed by the broker");

let done = 0;
for await (const job of jobs.consume({ prefetch: 2 })) {
  console.log(`done: ${job.body.text}, attempt ${job.properties.headers?.attempt}`);
  job.ack();
  if (++done === 5) break;
}
await jobs.delete();
await session.close();
