// `cargo xtask bench browser`: HopMQ and @cloudamqp/amqp-client in the same Chromium, alternating, against a stub
// broker. Prints medians and whether the goals are met. `--quick` does a tenth of the work, once; `--runs=N`;
// `--filter=TEXT` selects cases.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, open, serve } from "../lib/chromium.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const quick = process.argv.includes("--quick");
const option = (name) => process.argv.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
const runs = Number(option("runs") ?? (quick ? 1 : 5));
const scale = quick ? 0.1 : 1;
const only = option("filter") ?? "";

const CASES = [
  { name: "consume, 1 B", work: "consume", size: 1, count: 600_000, goal: 4 },
  { name: "consume, 100 B with headers", work: "consume", size: 100, count: 200_000, headers: true, goal: 2.3 },
  { name: "consume, 64 KiB", work: "consume", size: 65_536, count: 4_000, goal: 1 },
  { name: "publish confirmed, 100 B", work: "publish", size: 100, count: 100_000, goal: 1.5 },
  { name: "consume by for await, 1 B", work: "iterate", size: 1, count: 600_000 },
].filter(({ name }) => name.includes(only));

const PAGE = `<!doctype html><title>bench</title><script type="importmap">{"imports": {
  "hopmq": "/dist/inline.js", "peer": "/peer/amqp-websocket-client.mjs"}}</script>`;

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

const broker = spawn(process.execPath, [join(here, "stub-broker.mjs")], { stdio: ["ignore", "pipe", "inherit"] });
const port = await new Promise((resolve) => broker.stdout.once("data", (data) => resolve(Number(data))));
const dist = join(here, "../../npm/dist");
const peerDist = join(here, "../node_modules/@cloudamqp/amqp-client/dist");
const server = await serve({ "/dist/": dist, "/peer/": peerDist, "/": here }, PAGE);
const browser = await launch();
let met = true;
try {
  const results = new Map();
  for (let run = 0; run < runs; run++) {
    for (const one of CASES) {
      for (const client of run % 2 === 0 ? ["hopmq", "peer"] : ["peer", "hopmq"]) {
        if (one.work === "iterate" && client === "peer") continue;
        const count = Math.round(one.count * scale);
        // A new page for each run, so that no run collects the garbage of another.
        const page = await open(browser, server.url);
        const time = await page.evaluate(
          async ({ client, url, one, count }) => {
            const { clients } = await import("/page.js");
            return clients[client][one.work](url, one.size, count, one.headers);
          },
          { client, url: `ws://127.0.0.1:${port}/ws/amqp`, one, count },
        );
        await page.close();
        const key = `${one.name}/${client}`;
        results.set(key, [...(results.get(key) ?? []), (count / time) * 1000]);
      }
    }
  }
  console.log(`${browser.version()}, ${runs} alternating runs, medians, messages per second`);
  for (const { name, goal } of CASES) {
    const [ours, theirs] = ["hopmq", "peer"].map((client) => results.get(`${name}/${client}`));
    const rate = (all) => (all === undefined ? "-" : Math.round(median(all)).toLocaleString("en"));
    let verdict = "";
    if (goal !== undefined) {
      const ratio = median(ours) / median(theirs);
      verdict = `${ratio.toFixed(2)}x, goal ${goal}x: ${ratio >= goal ? "met" : "MISSED"}`;
      met &&= ratio >= goal;
    }
    const rates = [ours, theirs].map((one) => rate(one).padStart(9));
    console.log(`${name.padEnd(30)} HopMQ ${rates[0]}   amqp-client ${rates[1]}   ${verdict}`);
  }
  const { wasm, js } = JSON.parse(readFileSync(join(here, "../../npm/pkg/size.json"), "utf8"));
  const size = (wasm + js) / 1024;
  console.log(`size: ${size.toFixed(1)} KiB gzip, goal 100 KiB: ${size <= 100 ? "met" : "MISSED"}`);
  met &&= size <= 100;
} finally {
  await browser.close();
  server.close();
  broker.kill();
}
if (process.argv.includes("--check") && !met) process.exit(1);
