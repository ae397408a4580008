// What breaks behind a page: the gateway is killed, RabbitMQ closes connections, stops, is killed, and the page itself
// is slowed down. In Chromium, from the tarball, while the page publishes and consumes: nothing confirmed may be lost.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { launch, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";

const here = new URL(".", import.meta.url).pathname;
const { HOPMQ_RABBITMQCTL, HOPMQ_XTASK } = process.env;
const run = (program, ...words) => promisify(execFile)(program, words);
/** How many messages must be confirmed between two faults. */
const PROGRESS = 50;
/** What nothing here takes unless it hangs, in milliseconds. */
const PATIENCE = 60_000;

/** What a browser does to a page that nobody has looked at for minutes. */
const slowed = () => {
  Object.defineProperty(document, "hidden", { get: () => true });
  const timeout = window.setTimeout;
  window.setTimeout = (work, time) => timeout(work, Math.max(time, 60_000));
};

const ctl = (...words) => run(HOPMQ_RABBITMQCTL, "--quiet", ...words);
const killed = (way) => way.restart();
const tests = {
  a_gateway_that_is_killed_loses_nothing: { rounds: 3, fault: killed },
  a_gateway_that_is_killed_behind_a_slowed_page_loses_nothing: { rounds: 2, fault: killed, before: slowed },
  connections_that_rabbitmq_closes_lose_nothing: {
    rounds: 3,
    fault: () => ctl("close_all_connections", "the test asks for it"),
  },
  a_rabbitmq_that_stops_and_starts_loses_nothing: {
    rounds: 1,
    fault: async () => {
      await ctl("stop_app");
      await ctl("start_app");
    },
  },
  a_rabbitmq_that_is_killed_loses_nothing: {
    rounds: 1,
    fault: async () => {
      await run(HOPMQ_XTASK, "rabbitmq", "kill");
      await run(HOPMQ_XTASK, "rabbitmq", "resume");
    },
  },
};

async function one(name, { rounds, fault, before }, browser, page_url) {
  const way = await gateway();
  const context = await browser.newContext();
  if (before !== undefined) await context.addInitScript(before);
  const page = await context.newPage();
  try {
    await page.goto(page_url);
    await page.evaluate(async ({ url, name }) => {
      const [{ connect }, { traffic }] = await Promise.all([import("hopmq"), import("/lib/traffic.js")]);
      window.traffic = await traffic(connect, url, name);
    }, { url: way.url, name: `${name}-${Date.now()}` });
    const until = async (what, reconnected) => {
      const confirmed = await page.evaluate(() => window.traffic.state.confirmed.size);
      const holds = ({ reconnected, confirmed }) => {
        const { state } = window.traffic;
        return state.closed !== undefined || state.reconnected >= reconnected && state.confirmed.size >= confirmed;
      };
      try {
        await page.waitForFunction(holds, { reconnected, confirmed: confirmed + PROGRESS }, { timeout: PATIENCE });
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
    await until("nothing is confirmed before the first fault", 0);
    for (let round = 1; round <= rounds; round++) {
      await fault(way);
      await until(`it does not come back after fault ${round}`, round);
    }
    const { lost, refused, confirmed } = await page.evaluate(async () => {
      const lost = await window.traffic.lost();
      const { refused, confirmed } = window.traffic.state;
      return { lost, refused, confirmed: confirmed.size };
    });
    if (lost.length > 0) {
    throw new Error(`lost ${lost.length} of ${confirmed} that were confirmed: ${lost.slice(0, 20)}`);
  }
    if (refused.length > 0) throw new Error(`${refused.length} publishes failed: ${refused[0]}`);
    console.log(`${name}: ${rounds} faults, ${confirmed} confirmed, lost 0`);
  } finally {
    await context.close();
    way.close();
  }
}

const PAGE = `<!doctype html><title>recovery</title>
<script type="importmap">{"imports": {"hopmq": "/app/node_modules/hopmq/dist/inline.js"}}</script>`;

export async function recovery(app, only = []) {
  const report = new Report("Chromium while things break");
  const server = await serve({ "/app/": app, "/lib/": join(here, "lib") }, PAGE);
  const browser = await launch();
  for (const [name, test] of Object.entries(tests)) {
    if (only.length > 0 && !only.some((word) => name.includes(word))) continue;
    const start = performance.now();
    try {
      await one(name, test, browser, server.url);
      report.tell(name, undefined, performance.now() - start);
    } catch (error) {
      report.tell(name, String(error.stack ?? error), performance.now() - start);
    }
  }
  await browser.close();
  server.close();
  return report.finish();
}
