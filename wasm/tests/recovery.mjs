// Faults behind a page in Chromium that publishes and consumes: the gateway is killed, RabbitMQ closes connections,
// stops or is killed, and the page's timers are throttled. No confirmed message may be lost.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { launch, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";

const here = new URL(".", import.meta.url).pathname;
const { HOPMQ_RABBITMQCTL, HOPMQ_XTASK } = process.env;
const run = (program, ...words) => promisify(execFile)(program, words);
/** Number of messages that must be confirmed between two faults. */
const PROGRESS = 50;
/** Timeout of each step, in milliseconds: longer than any step takes unless it hangs. */
const TIMEOUT = 60_000;

/** Throttles the page as a browser does after it has been hidden for minutes. */
const throttle = () => {
  Object.defineProperty(document, "hidden", { get: () => true });
  const timeout = window.setTimeout;
  window.setTimeout = (work, time) => timeout(work, Math.max(time, 60_000));
};

const ctl = (...words) => run(HOPMQ_RABBITMQCTL, "--quiet", ...words);
const restartGateway = (server) => server.restart();
const tests = {
  killing_the_gateway_loses_no_message: { rounds: 3, fault: restartGateway },
  killing_the_gateway_loses_no_message_of_a_throttled_page: { rounds: 2, fault: restartGateway, before: throttle },
  connections_closed_by_rabbitmq_lose_no_message: {
    rounds: 3,
    fault: () => ctl("close_all_connections", "the test asks for it"),
  },
  restarting_rabbitmq_loses_no_message: {
    rounds: 1,
    fault: async () => {
      await ctl("stop_app");
      await ctl("start_app");
    },
  },
  killing_rabbitmq_loses_no_message: {
    rounds: 1,
    fault: async () => {
      await run(HOPMQ_XTASK, "rabbitmq", "kill");
      await run(HOPMQ_XTASK, "rabbitmq", "resume");
    },
  },
};

async function one(name, { rounds, fault, before }, browser, page_url) {
  const server = await gateway();
  const context = await browser.newContext();
  if (before !== undefined) await context.addInitScript(before);
  const page = await context.newPage();
  try {
    await page.goto(page_url);
    await page.evaluate(async ({ url, name }) => {
      const [{ connect }, { traffic }] = await Promise.all([import("hopmq"), import("/lib/traffic.js")]);
      window.traffic = await traffic(connect, url, name);
    }, { url: server.url, name: `${name}-${Date.now()}` });
    const until = async (what, reconnected) => {
      const confirmed = await page.evaluate(() => window.traffic.state.confirmed.size);
      const progressed = ({ reconnected, confirmed }) => {
        const { state } = window.traffic;
        return state.closed !== undefined || state.reconnected >= reconnected && state.confirmed.size >= confirmed;
      };
      try {
        await page.waitForFunction(progressed, { reconnected, confirmed: confirmed + PROGRESS }, { timeout: TIMEOUT });
      } catch (error) {
        const state = await page.evaluate(() => {
          const { state } = window.traffic;
          return { ...state, confirmed: state.confirmed.size };
        });
        throw new Error(`${what}: ${JSON.stringify(state)}`, { cause: error });
      }
      const closed = await page.evaluate(() => window.traffic.state.closed);
      if (closed !== undefined) throw new Error(`${what}: the session ended: ${closed}`);
    };
    await until("no confirms before the first fault", 0);
    for (let round = 1; round <= rounds; round++) {
      await fault(server);
      await until(`no reconnect after fault ${round}`, round);
    }
    const { lost, refused, confirmed } = await page.evaluate(async () => {
      const lost = await window.traffic.lost();
      const { refused, confirmed } = window.traffic.state;
      return { lost, refused, confirmed: confirmed.size };
    });
    if (lost.length > 0) {
      throw new Error(`lost ${lost.length} of ${confirmed} confirmed messages: ${lost.slice(0, 20)}`);
    }
    if (refused.length > 0) throw new Error(`${refused.length} publishes failed: ${refused[0]}`);
    console.log(`${name}: ${rounds} faults, ${confirmed} confirmed, lost 0`);
  } finally {
    await context.close();
    server.close();
  }
}

const PAGE = `<!doctype html><title>recovery</title>
<script type="importmap">{"imports": {"hopmq": "/app/node_modules/hopmq/dist/inline.js"}}</script>`;

export async function recovery(app, only = []) {
  const report = new Report("Chromium, with faults");
  const server = await serve({ "/app/": app, "/lib/": join(here, "lib") }, PAGE);
  const browser = await launch();
  for (const [name, test] of Object.entries(tests)) {
    if (only.length > 0 && !only.some((word) => name.includes(word))) continue;
    const start = performance.now();
    try {
      await one(name, test, browser, server.url);
      report.add(name, undefined, performance.now() - start);
    } catch (error) {
      report.add(name, String(error.stack ?? error), performance.now() - start);
    }
  }
  await browser.close();
  server.close();
  return report.finish();
}
