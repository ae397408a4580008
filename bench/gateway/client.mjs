// The client of `cargo xtask bench gateway`: @cloudamqp/amqp-client from npm.
//
// node client.mjs chromium: for each input line `URL SIZE COUNT`, consumes COUNT messages of SIZE bytes from a flood,
// in a new page of Chromium, and prints the duration in seconds.
// node client.mjs node: for each input line, does the same work in Node.
// node client.mjs idle URL COUNT: opens COUNT connections, prints "open", and keeps them until its input ends.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { AMQPWebSocketClient } from "@cloudamqp/amqp-client/amqp-websocket-client";

/** Consumes a flood. It also runs as source text in a page, so it must not refer to names outside. */
async function consume(Client, url, size, count) {
  const connection = await new Client(url, "/", "guest", "guest").connect();
  const channel = await connection.channel();
  let got = 0;
  let resolve;
  const all = new Promise((done) => (resolve = done));
  const begun = performance.now();
  await channel.basicConsume(`flood-${size}-${count}`, { noAck: true }, () => { if (++got === count) resolve(); });
  await all;
  const seconds = (performance.now() - begun) / 1000;
  await connection.close();
  return seconds;
}

async function lines(answer) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [url, size, count] = line.split(" ");
    console.log(await answer(url, Number(size), Number(count)));
  }
}

async function inChromium() {
  const { chromium } = await import("playwright-core");
  const path = "node_modules/@cloudamqp/amqp-client/dist/amqp-websocket-client.mjs";
  const module = await readFile(new URL(path, import.meta.url));
  const server = createServer((request, response) => {
    if (request.url === "/client.mjs") response.writeHead(200, { "content-type": "text/javascript" }).end(module);
    else response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>bench</title>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: process.env.HOPMQ_CHROMIUM, args });
  console.log(`Chromium ${browser.version()}`);
  await lines(async (url, size, count) => {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const call = `(${consume})(AMQPWebSocketClient, "${url}", ${size}, ${count})`;
    const source = `import("/client.mjs").then(({ AMQPWebSocketClient }) => ${call})`;
    const seconds = await page.evaluate(source);
    await page.close();
    return seconds;
  });
  await browser.close();
  server.close();
}

async function idle(url, count) {
  const connections = [];
  for (let n = 0; n < count; n += 50) {
    const connect = () => new AMQPWebSocketClient(url, "/", "guest", "guest").connect();
    connections.push(...await Promise.all(Array.from({ length: 50 }, connect)));
  }
  console.log("open");
  process.stdin.resume().on("end", () => process.exit(0));
}

const [what, url, count] = process.argv.slice(2);
if (what === "chromium") await inChromium();
else if (what === "idle") await idle(url, Number(count));
else {
  console.log(`Node ${process.version}`);
  await lines((...order) => consume(AMQPWebSocketClient, ...order));
  process.exit(0);
}
