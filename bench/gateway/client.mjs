// What `cargo xtask bench gateway` does with @cloudamqp/amqp-client, as it is on npm, in Node.
//
// node client.mjs consume URL SIZE COUNT: consumes COUNT messages of SIZE bytes from a flood, and prints the seconds.
// node client.mjs idle URL COUNT: opens COUNT connections, prints "open", and keeps them until its input ends.
import { AMQPWebSocketClient } from "@cloudamqp/amqp-client/amqp-websocket-client";

const [what, url, ...numbers] = process.argv.slice(2);
const connect = () => new AMQPWebSocketClient(url, "/", "guest", "guest").connect();

if (what === "consume") {
  const [size, count] = numbers.map(Number);
  const connection = await connect();
  const channel = await connection.channel();
  let got = 0;
  let resolve;
  const all = new Promise((done) => (resolve = done));
  const begun = performance.now();
  await channel.basicConsume(`flood-${size}-${count}`, { noAck: true }, () => { if (++got === count) resolve(); });
  await all;
  console.log((performance.now() - begun) / 1000);
  process.exit(0);
} else {
  const connections = [];
  for (let n = 0; n < Number(numbers[0]); n += 50) {
    connections.push(...await Promise.all(Array.from({ length: 50 }, connect)));
  }
  console.log("open");
  process.stdin.resume().on("end", () => process.exit(0));
}
