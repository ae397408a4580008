// All scenarios by file, and their runner.

import * as args from "./arguments.js";
import * as batching from "./batching.js";
import * as browser from "./browser.js";
import * as channels from "./channels.js";
import * as confirming from "./confirming.js";
import * as connections from "./connections.js";
import * as consuming from "./consuming.js";
import * as exchanges from "./exchanges.js";
import { run } from "./harness.js";
import * as login from "./login.js";
import * as publishing from "./publishing.js";
import * as queues from "./queues.js";
import * as rabbitmq from "./rabbitmq.js";
import * as settling from "./settling.js";
import * as transactions from "./transactions.js";

export const files = {
  arguments: args, batching, browser, channels, confirming, connections, consuming, exchanges, login, publishing,
  queues, rabbitmq, settling, transactions,
};

/** Number of scenarios that run concurrently: they mostly wait for the broker. */
const CONCURRENCY = 6;

/** Runs the scenarios whose names contain one of the words in `only`, and calls `report` with each result. */
export async function runAll(world, only, report) {
  const wanted = (name) => only.length === 0 || only.some((word) => name.includes(word));
  const one = async ([name, scenario]) => {
    const start = performance.now();
    try {
      await run(world, name, scenario);
      await report(name, undefined, performance.now() - start);
    } catch (error) {
      const trace = String(error?.stack ?? error).split("\n").slice(0, 4).join("\n");
      await report(name, `${error?.message}\n${trace}`, performance.now() - start);
    }
  };
  const list = (which) => Object.values(files).flatMap((file) => Object.entries(file[which] ?? {}));
  const all = list("scenarios").filter(([name]) => wanted(name));
  const lane = async () => {
    for (let next = all.shift(); next !== undefined; next = all.shift()) await one(next);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, lane));
  for (const scenario of list("alone").filter(([name]) => wanted(name))) await one(scenario);
}
