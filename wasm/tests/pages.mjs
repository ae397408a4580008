// The example pages, served by the gateway; the Node example; a hidden page; and @cloudamqp/amqp-client through the
// gateway.

import { execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { copyFileSync, existsSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { launch, open, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";

const examples = new URL("../examples", import.meta.url).pathname;
const peer = new URL("./node_modules/@cloudamqp/amqp-client/dist", import.meta.url).pathname;

/** Waits until `condition` holds in the page; `what` names it in the error. */
async function shows(page, what, condition, argument) {
  try {
    await page.waitForFunction(condition, argument, { timeout: 30_000 });
  } catch (error) {
    const screen = await page.evaluate(() => document.body.innerText);
    throw new Error(`the page does not show ${what}: ${screen}`, { cause: error });
  }
}

const SECRET = "a secret of the tests, thirty-two bytes";

/** A token that the gateway accepts with `policy.toml` and SECRET. */
function token() {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const expires = Math.floor(Date.now() / 1000) + 600;
  const claims = { iss: "examples", aud: "examples", sub: "tester", exp: expires };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

const tests = {
  async a_chat_shows_the_messages_of_others(browser, server) {
    const room = `?room=rabbits&name=`;
    const one = await open(browser, `${server.http}/chat/index.html${room}Hazel`);
    const two = await open(browser, `${server.http}/chat/index.html${room}Bigwig`);
    for (const page of [one, two]) await shows(page, "rooms", () => document.querySelector("nav button") !== null);
    const text = `hello ${Math.random()}`;
    await one.fill("#text", text);
    await one.press("#text", "Enter");
    const said = (text) => document.querySelector("#messages").innerText.includes(text);
    await shows(two, "the message", said, text);
    await shows(one, "the confirm", () => document.querySelector(".confirmed .tick")?.textContent === "✓");
    await one.reload();
    await shows(one, "the earlier message", said, text);
  },

  async a_dashboard_counts_orders(browser, server) {
    const page = await open(browser, `${server.http}/dashboard/index.html`);
    await shows(page, "orders", () => Number(document.querySelector(".tile b")?.textContent) > 10);
    await shows(page, "a curve", () => document.querySelectorAll("#chart path").length === 3);
  },

  async a_page_in_rust_publishes_and_consumes(browser, server) {
    if (!existsSync(join(examples, "dist/rust"))) throw new Error("not built: run cargo xtask wasm --examples");
    const page = await open(browser, `${server.http}/rust/index.html`);
    await shows(page, "the last message and the end", () => /message 10\s+closed/.test(document.body.innerText));
  },

  async handlers_in_rust_retry_and_dead_letter_in_a_page(browser, server) {
    const page = await open(browser, `${server.http}/rust/handlers.html`);
    await shows(page, "the end", () => /closed$/.test(document.body.innerText.trim()));
    const lines = (await page.evaluate(() => document.body.innerText)).split(/\n+/).map((line) => line.trim());
    const expected = [
      "order 1, attempt 1",
      "order 2, attempt 1",
      "order 2, attempt 2",
      "order 2, attempt 3",
      "order 3, attempt 1",
      "dead letter 3: there is no pizza 3",
      "dead letter no number: the body is not the JSON of u32",
    ];
    const missing = expected.filter((line) => !lines.some((shown) => shown.startsWith(line)));
    if (missing.length > 0) throw new Error(`${missing.join("; ")} is missing in ${lines.join("\n")}`);
    const more = lines.filter((line) => line !== "").length - expected.length - 1;
    if (more !== 0) throw new Error(`${more} lines more than expected: ${lines.join("\n")}`);
  },

  async the_node_example_runs(_browser, server, app, ...words) {
    copyFileSync(join(examples, "node/work.mjs"), join(app, "work.mjs"));
    const flags = Number(process.versions.node.split(".")[0]) < 22 ? ["--experimental-websocket"] : [];
    const options = { cwd: app, stdio: ["ignore", "pipe", "inherit"] };
    const script = spawn(process.execPath, [...flags, "work.mjs", server.url, ...words], options);
    let printed = "";
    script.stdout.on("data", (data) => (printed += data));
    const [code] = await once(script, "close");
    const done = code === 0 && printed.includes("done: job 5, attempt 1");
    if (!done) throw new Error(`the script ended with ${code} and printed ${printed}`);
  },

  async the_examples_run_under_their_policy(browser, _server, app) {
    const server = await gateway({
      HOPMQ_GATEWAY_CONFIG: join(examples, "policy.toml"),
      HOPMQ_GATEWAY_AUTH_JWT_SECRET: SECRET,
      HOPMQ_GATEWAY_STATIC: join(examples, "dist"),
    });
    try {
      const chat = await open(browser, `${server.http}/chat/index.html?name=Hazel&token=${token()}`);
      await shows(chat, "rooms", () => document.querySelector("nav button") !== null);
      await chat.fill("#text", "allowed");
      await chat.press("#text", "Enter");
      await shows(chat, "the confirm", () => document.querySelector(".confirmed .tick")?.textContent === "✓");
      const dashboard = await open(browser, `${server.http}/dashboard/index.html?token=${token()}`);
      await shows(dashboard, "orders", () => Number(document.querySelector(".tile b")?.textContent) > 10);
      await tests.the_node_example_runs(browser, server, app, token());
      const folders = { "/hopmq/": join(app, "node_modules/hopmq/dist") };
      const pages = await serve(folders, "<!doctype html><title>policy</title>");
      const page = await open(browser, pages.url);
      const outcomes = await page.evaluate(async ({ url, token }) => {
        const { connect } = await import("/hopmq/inline.js");
        const session = await connect(url, { auth: { token } });
        const { name } = await session.queue("hopmq-chat-general", { passive: true });
        const refused = await session.queue("another").catch((error) => error.code);
        await session.close();
        return [name, refused].join();
      }, { url: server.url, token: token() });
      pages.close();
      if (outcomes !== "hopmq-chat-general,403") throw new Error(`got ${outcomes}`);
    } finally {
      server.close();
    }
  },

  async a_runtime_without_websocket_gets_a_short_error(_browser, server, app) {
    const source = `delete globalThis.WebSocket;
      const { connect } = await import("hopmq");
      await connect("${server.url}");`;
    const script = spawn(process.execPath, ["--input-type=module", "--eval", source], { cwd: app });
    let printed = "";
    script.stderr.on("data", (data) => (printed += data));
    const [code] = await once(script, "close");
    const expected = code === 1 && printed.includes("this runtime has no WebSocket") && printed.length < 4_000;
    if (!expected) throw new Error(`the script ended with ${code} and printed ${printed}`);
  },

  async heartbeats_continue_while_the_page_is_hidden(browser, server, app) {
    const folders = { "/hopmq/": join(app, "node_modules/hopmq/dist") };
    const pages = await serve(folders, "<!doctype html><title>hidden</title>");
    const context = await browser.newContext();
    // A browser throttles a page that has been hidden for minutes.
    await context.addInitScript(() => {
      Object.defineProperty(document, "hidden", { get: () => true });
      const timeout = window.setTimeout;
      window.setTimeout = (work, time) => timeout(work, Math.max(time, 60_000));
    });
    const page = await context.newPage();
    await page.goto(pages.url);
    await page.evaluate(async (url) => {
      const { connect } = await import("/hopmq/inline.js");
      window.session = await connect(url, { heartbeat: 1, reconnect: false });
      window.sent = window.session.stats.bytesSent;
    }, server.url);
    const threeHeartbeats = () => {
      const { state, stats } = window.session;
      return state === "closed" || stats.bytesSent >= window.sent + 3 * 8;
    };
    await page.waitForFunction(threeHeartbeats, undefined, { timeout: 20_000 });
    const state = await page.evaluate(() => window.session.state);
    await context.close();
    pages.close();
    if (state !== "open") throw new Error(`the session is ${state}`);
  },

  async amqp_client_works_through_the_gateway(browser, server) {
    const pages = await serve({ "/": peer }, "<!doctype html><title>peer</title>");
    const page = await open(browser, pages.url);
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
    }, server.url);
    pages.close();
    if (bodies !== "one,two") throw new Error(`got ${bodies}`);
  },
};

export async function pages(app) {
  const report = new Report("the example pages, and amqp-client");
  execFileSync(process.execPath, [join(examples, "build.mjs")], { stdio: "inherit" });
  const server = await gateway({ HOPMQ_GATEWAY_STATIC: join(examples, "dist") });
  const browser = await launch();
  for (const [name, test] of Object.entries(tests)) {
    const start = performance.now();
    try {
      await test(browser, server, app);
      report.add(name, undefined, performance.now() - start);
    } catch (error) {
      report.add(name, String(error.stack ?? error), performance.now() - start);
    }
  }
  await browser.close();
  server.close();
  return report.finish();
}
