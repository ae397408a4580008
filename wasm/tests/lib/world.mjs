// What scenarios need from outside of the page: relays with faults, the broker's management API, its memory alarm.

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
    /** Another way to the broker. */
    async relay(how) {
      const made = await relay({ ...upstream, how });
      return { id: relays.push(made) - 1, url: made.url };
    },
    drop: (id, close = false) => (close ? relays[id].close() : relays[id].drop()),
    mute: (id) => void relays[id].mute(),
    async http(method, path) {
      const headers = { authorization: `Basic ${Buffer.from("guest:guest").toString("base64")}` };
      const answer = await fetch(`${RABBITMQ_HTTP}${path}`, { method, headers });
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status}`);
      return answer.text();
    },
    async alarm(on) {
      // RabbitMQ tells its connections in its own time; whoever asks what alarms there are asks who tells them.
      const alarmed = on ? "0.00001), [_ | _] =" : "0.4),";
      const change = `vm_memory_monitor:set_vm_memory_high_watermark(${alarmed} rabbit_alarm:get_alarms().`;
      await promisify(execFile)(HOPMQ_RABBITMQCTL, ["--quiet", "eval", change]);
    },
    close: () => relays.forEach((made) => made.close()),
  };
}
