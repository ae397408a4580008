// The example pages, served by the gateway as a person would, the script for Node, a page that is hidden, and the
// peer's client through the gateway.

import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { launch, open, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";

const examples = new URL("../examples", import.meta.url).pathname;
const peer = new URL("./node_modules/@cloudamqp/amqp-client/dist", import.meta.url).pathname;

/** What must be true at some time; its name is what fails. */
async function shows(page, what, holds, argument) {
  try {
    await page.waitForFunction(holds, argument, { timeout: 30_000 });
  } catch (error) {
    const screen = await page.evaluate(() => document.body.innerText);
    throw new Error(`the page does not show ${what}, but: ${screen}`, { cause: error });
  }
}

const tests = {
  async a_chat_shows_what_others_say(browser, way) {
    const room = `?room=rabbits&name=`;
    const one = await open(browser, `${way.http}/chat/index.html${room}Hazel`);
    const two = await open(browser, `${way.http}/chat/index.html${room}Bigwig`);
    for (const page of [one, two]) await shows(page, "rooms", () => document.querySelector("nav button") !== null);
    const text = `hello ${Math.random()}`;
    await one.fill("#text", text);
    await one.press("#text", "Enter");
    const said = (text) => document.querySelector("#messages").innerText.includes(text);
    await shows(two, "what was said", said, text);
    await shows(one, "that the broker has it", () => document.querySelector(".confirmed .tick")?.textContent === "✓");
    await one.reload();
    await shows(one, "what was said before", said, text);
  },

  async a_dashboard_counts_orders(browser, way) {
    const page = await open(browser, `${way.http}/dashboard/index.html`);
    await shows(page, "orders", () => Number(document.querySelector(".tile b")?.textContent) > 10);
    await shows(page, "a curve", () => document.querySelectorAll("#chart path").length === 3);
  },

  async a_page_in_rust_publishes_and_consumes(browser, way) {
    if (!existsSync(join(examples, "dist/rust"))) throw new Error("it is not built: cargo xtask wasm --examples");
    const page = await open(browser, `${way.http}/rust/index.html`);
    await shows(page, "the last message and the end", () => /message 10\s+closed/.test(document.body.innerText));
  },

  async the_script_for_node_does_its_work(_browser, way, app) {
    copyFileSync(join(examples, "node/work.mjs"), join(app, "work.mjs"));
    const flags = Number(process.versions.node.split(".")[0]) < 22 ? ["--experimental-websocket"] : [];
    const options = { cwd: app, stdio: ["ignore", "pipe", "inherit"] };
    const script = spawn(process.execPath, [...flags, "work.mjs", way.url], options);
    let printed = "";
    script.stdout.on("data", (data) => (printed += data));
    const [code] = await once(script, "close");
    const done = code === 0 && printed.includes("done: job 5");
    if (!done) throw new Error(`it ended with ${code}, and printed ${printed}`);
  },

  async where_there_is_no_websocket_it_says_so_in_a_few_lines(_browser, way, app) {
    const source = `delete globalThis.WebSocket;
      const { connect } = await import("hopmq");
      await connect("${way.url}");`;
    const script = spawn(process.execPath, ["--input-type=module", "--eval", source], { cwd: app });
    let printed = "";
    script.stderr.on("data", (data) => (printed += data));
    const [code] = await once(script, "close");
    const well = code === 1 && printed.includes("there is no WebSocket: Node has one") && printed.length < 4_000;
    if (!well) throw new Error(`it ended with ${code}, and printed ${printed}`);
  },

  async heartbeats_go_on_while_the_page_is_hidden(browser, way, app) {
    const folders = { "/hopmq/": join(app, "node_modules/hopmq/dist") };
    const server = await serve(folders, "<!doctype html><title>hidden</title>");
    const context = await browser.newContext();
    // What a browser does to a page that nobody has looked at for minutes.
    await context.addInitScript(() => {
      Object.defineProperty(document, "hidden", { get: () => true });
      const timeout = window.setTimeout;
      window.setTimeout = (work, time) => timeout(work, Math.max(time, 60_000));
    });
    const page = await context.newPage();
    await page.goto(server.url);
    await page.evaluate(async (url) => {
      const { connect } = await import("/hopmq/inline.js");
      window.session = await connect(url, { heartbeat: 1, reconnect: false });
      window.sent = window.session.stats.bytesSent;
    }, way.url);
    const three = () => window.session.state === "closed" || window.session.stats.bytesSent >= window.sent + 3 * 8;
    await page.waitForFunction(three, undefined, { timeout: 20_000 });
    const state = await page.evaluate(() => window.session.state);
    await context.close();
    server.close();
    if (state !== "open") throw new Error(`the session is ${state}`);
  },

  async amqp_client_works_through_the_gateway(browser, way) {
    const server = await serve({ "/": peer }, "<!doctype html><title>peer</title>");
    const page = await open(browser, server.url);
    const bodies = await page.evaluate(async (url) => {
      const { AMQPWebSocketClient } = await import("/amqp-websocket-client.mjs");
      const client = new AMQPWebSocketClient(url, "/", "guest", "guest");
      const channel = await (await client.connect()).channel();
      const { name } = await channel.queueDeclare("", { exclusive: true });
      await channel.confirmSelect();
      for (const body of ["one", "two"]) await channel.basicPublish("", name, body);
      const got = [];
      await new Promise((resolve) => {
        void channel.basicConsume(name, { noAck: true }, (m) => got.push(m.bodyString()) === 2 && resolve());
      });
      await client.close();
      return got.join();
    }, way.url);
    server.close();
    if (bodies !== "one,two") throw new Error(`it got ${bodies}`);
  },
};

export async function pages(app) {
  const report = new Report("the example pages, and the peer");
  execFileSync(process.execPath, [join(examples, "build.mjs")], { stdio: "inherit" });
  const way = await gateway({ HOPMQ_GATEWAY_STATIC: join(examples, "dist") });
  const browser = await launch();
  for (const [name, test] of Object.entries(tests)) {
    const start = performance.now();
    try {
      await test(browser, way, app);
      report.tell(name, undefined, performance.now() - start);
    } catch (error) {
      report.tell(name, String(error.stack ?? error), performance.now() - start);
    }
  }
  await browser.close();
  way.close();
  return report.finish();
}
