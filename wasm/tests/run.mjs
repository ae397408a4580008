// Tests the npm package from its packed tarball, through the gateway: `node run.mjs [WORD…]`, in the environment that
// `cargo xtask test` provides.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundles } from "./bundles.mjs";
import { launch, open, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";
import { world } from "./lib/world.mjs";
import { pages } from "./pages.mjs";
import { recovery } from "./recovery.mjs";
import { checkScenarioList } from "./scenario-list.mjs";
import { types } from "./types.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const app = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "npm-tests");
const only = process.argv.slice(2);

/** Packs the package and installs it from the tarball. */
function install() {
  rmSync(app, { recursive: true, force: true });
  mkdirSync(app, { recursive: true });
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  const quiet = { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" };
  const packed = execFileSync("npm", ["pack", "--pack-destination", app], { cwd: join(root, "wasm/npm"), ...quiet });
  const tarball = packed.trim().split("\n").pop();
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--offline", `./${tarball}`], { cwd: app, ...quiet });
}

const PAGE = `<!doctype html><title>hopmq</title>
<script type="importmap">{"imports": {"hopmq": "/app/node_modules/hopmq/dist/inline.js"}}</script>`;

async function inChromium(outside, url) {
  const report = new Report("Chromium");
  const server = await serve({ "/app/": app, "/scenarios/": join(here, "scenarios") }, PAGE);
  const browser = await launch();
  try {
    const page = await open(browser, server.url);
    for (const name of ["relay", "drop", "mute", "http", "alarm"]) await page.exposeFunction(name, outside[name]);
    await page.exposeFunction("report", (...result) => report.add(...result));
    await page.evaluate(
      async ({ url, only }) => {
        const { connect, ...codecs } = await import("hopmq");
        const { runAll } = await import("/scenarios/all.js");
        const { relay, drop, mute, http, alarm, report } = window;
        await runAll({ url, connect, codecs, relay, drop, mute, http, alarm }, only, report);
      },
      { url, only },
    );
  } finally {
    await browser.close();
    server.close();
  }
  return report.finish();
}

/** Runs the scenarios that need nothing from outside the page, in a Web Worker. */
async function inWorker(url) {
  const report = new Report("a Web Worker");
  const folders = { "/app/": app, "/scenarios/": join(here, "scenarios"), "/lib/": join(here, "lib") };
  const server = await serve(folders, PAGE);
  const browser = await launch();
  try {
    const page = await open(browser, server.url);
    await page.exposeFunction("report", (...result) => report.add(...result));
    await page.evaluate(async (url) => {
      const worker = new Worker("/lib/worker.js", { type: "module" });
      await new Promise((resolve, reject) => {
        worker.onerror = (event) => reject(new Error(event.message));
        worker.onmessage = ({ data }) => (data === "end" ? resolve() : window.report(...data));
        worker.postMessage(url);
      });
    }, url);
  } finally {
    await browser.close();
    server.close();
  }
  return report.finish();
}

/** Runs the scenarios in this Node, or in another runtime: see HOPMQ_RUNTIMES. */
async function inNode(url, program = process.execPath) {
  writeFileSync(join(app, "node.mjs"), `
    import * as hopmq from "hopmq";
    import { runAll } from ${JSON.stringify(join(here, "scenarios/all.js"))};
    import { Report } from ${JSON.stringify(join(here, "lib/report.mjs"))};
    import { world } from ${JSON.stringify(join(here, "lib/world.mjs"))};
    const { deno, bun } = process.versions;
    const report = new Report(deno ? "Deno " + deno : bun ? "Bun " + bun : "Node " + process.version);
    const outside = world();
    const scenarioWorld = { ...outside, url: process.env.HOPMQ_URL, connect: hopmq.connect, codecs: hopmq };
    await runAll(scenarioWorld, process.argv.slice(2), (...result) => report.add(...result));
    outside.close();
    process.exit(report.finish() ? 0 : 1);
  `);
  const major = Number(process.versions.node.split(".")[0]);
  const nodeFlags = major < 22 ? ["--experimental-websocket"] : [];
  const flags = program === process.execPath ? nodeFlags : program.endsWith("deno") ? ["run", "--allow-all"] : [];
  const options = { cwd: app, stdio: "inherit", env: { ...process.env, HOPMQ_URL: url } };
  // Asynchronously, because this process runs the relays.
  const [code] = await once(spawn(program, [...flags, "node.mjs", ...only], options), "exit");
  return code === 0;
}

const outside = world();
const server = await gateway();
const { url } = server;
let passed = checkScenarioList();
try {
  install();
  passed = (only.length > 0 || types(app)) && passed;
  passed = (await inChromium(outside, url)) && passed;
  passed = (only.length > 0 || (await inWorker(url))) && passed;
  passed = (await inNode(url)) && passed;
  // Paths of other runtimes: Node 22, Deno, Bun.
  for (const program of (process.env.HOPMQ_RUNTIMES ?? "").split(":").filter(Boolean)) {
    passed = (await inNode(url, program)) && passed;
  }
  passed = (only.length > 0 || (await bundles(app, url))) && passed;
  passed = (only.length > 0 || (await pages(app))) && passed;
  // Last, because it kills RabbitMQ.
  passed = (await recovery(app, only)) && passed;
} finally {
  outside.close();
  server.close();
}
process.exit(passed ? 0 : 1);
