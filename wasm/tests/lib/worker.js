// Runs scenarios in a Web Worker, with the package's entry for workers.

import * as hopmq from "/app/node_modules/hopmq/dist/worker.js";
import { runAll } from "/scenarios/all.js";

const FILES = ["confirm", "consumer", "publish", "properties", "dispose", "codecs", "calls_get"];

onmessage = async ({ data: url }) => {
  const never = () => Promise.reject(new Error("not from a worker"));
  const nevers = { relay: never, drop: never, mute: never, http: never, alarm: never };
  const world = { url, connect: hopmq.connect, codecs: hopmq, ...nevers };
  const apart = [
    "after_a_reconnect", "comes_back_with", "publishes_under_way", "while_", "attempts_end", "broker_closes",
  ];
  const wanted = (name) => FILES.some((word) => name.includes(word)) && !apart.some((word) => name.includes(word));
  const { files } = await import("/scenarios/all.js");
  const names = Object.values(files).flatMap((file) => Object.keys(file.scenarios)).filter(wanted);
  await runAll(world, names, (...told) => postMessage(told));
  postMessage("end");
};
