// What scenarios need from outside the page: relays with faults, RabbitMQ's management API, and its memory alarm.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { relay } from "./relay.mjs";

const { AMQP_URL, RABBITMQ_HTTP, HOPMQ_RABBITMQCTL } = process.env;

export function world() {
  if (AMQP_URL === undefined) throw new Error("AMQP_URL is not set: run `cargo xtask test`");
  const broker = new URL(AMQP_URL);
  const relays = [];
  const upstream = { host: broker.hostname, port: Number(broker.port) };
  return {
    /** Starts a relay to the broker. */
    async relay(mode) {
      const started = await relay({ ...upstream, mode });
      return { id: relays.push(started) - 1, url: started.url };
    },
    drop: (id, close = false) => (close ? relays[id].close() : relays[id].drop()),
    mute: (id) => void relays[id].mute(),
    async http(method, path) {
      const headers = { authorization: `Basic ${Buffer.from("guest:guest").toString("base64")}` };
      const response = await fetch(`${RABBITMQ_HTTP}${path}`, { method, headers });
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
      return response.text();
    },
    async alarm(on) {
      // RabbitMQ notifies connections asynchronously; `get_alarms` asks the process that notifies them, so it waits.
      const watermark = on ? "0.00001), [_ | _] =" : "0.4),";
      const change = `vm_memory_monitor:set_vm_memory_high_watermark(${watermark} rabbit_alarm:get_alarms().`;
      await promisify(execFile)(HOPMQ_RABBITMQCTL, ["--quiet", "eval", change]);
    },
    close: () => relays.forEach((started) => started.close()),
  };
}
