// Runs scenarios in a Web Worker, with the package's entry for workers.

import * as hopmq from "/app/node_modules/hopmq/dist/worker.js";
import { runAll } from "/scenarios/all.js";

const WORDS = ["confirm", "consumer", "publish", "properties", "disposable", "codecs", "calls_get"];

onmessage = async ({ data: url }) => {
  const unavailable = () => Promise.reject(new Error("not available in a worker"));
  const outside = Object.fromEntries(["relay", "drop", "mute", "http", "alarm"].map((name) => [name, unavailable]));
  const world = { url, connect: hopmq.connect, codecs: hopmq, ...outside };
  const excluded = ["after_a_reconnect", "reconnects_with", "pending_publishes", "while_", "broker_closes"];
  const wanted = (name) => WORDS.some((word) => name.includes(word)) && !excluded.some((word) => name.includes(word));
  const { files } = await import("/scenarios/all.js");
  const names = Object.values(files).flatMap((file) => Object.keys(file.scenarios)).filter(wanted);
  await runAll(world, names, (...result) => postMessage(result));
  postMessage("end");
};
