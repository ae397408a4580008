// The project's own gateway, in front of the broker of the environment. HOPMQ_GATEWAY_BIN names the program.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts it; `more` are settings by the names of their variables. */
export async function gateway(more = {}) {
  const program = process.env.HOPMQ_GATEWAY_BIN;
  if (program === undefined) throw new Error("HOPMQ_GATEWAY_BIN is not set: run `cargo xtask test`");
  const [port, broker] = [await freePort(), new URL(process.env.AMQP_URL)];
  const many = "1000000";
  const env = {
    PATH: process.env.PATH,
    HOPMQ_GATEWAY_LISTEN: `127.0.0.1:${port}`,
    HOPMQ_GATEWAY_UPSTREAM_HOSTS: `amqp://${broker.host}`,
    HOPMQ_GATEWAY_ORIGIN_ALLOW: "*",
    HOPMQ_GATEWAY_LOG_LEVEL: "error",
    HOPMQ_GATEWAY_LIMITS_CONNECTIONS_PER_ADDRESS: many,
    HOPMQ_GATEWAY_LIMITS_CONNECTIONS_PER_USER: many,
    HOPMQ_GATEWAY_LIMITS_UPGRADES_PER_MINUTE: many,
    HOPMQ_GATEWAY_LIMITS_MESSAGES_PER_SECOND: many,
    HOPMQ_GATEWAY_LIMITS_BYTES_PER_SECOND: "1GiB",
    ...more,
  };
  let child;
  const start = async () => {
    child = spawn(program, [], { env, stdio: ["ignore", "inherit", "inherit"] });
    let ended;
    child.on("exit", (code) => (ended = code ?? -1));
    for (;;) {
      if (ended !== undefined) throw new Error(`the gateway ended with ${ended}`);
      try {
        if ((await fetch(`http://127.0.0.1:${port}/readyz`)).ok) break;
      } catch {
        // It is not listening yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await start();
  return {
    url: `ws://127.0.0.1:${port}/ws/amqp`,
    http: `http://127.0.0.1:${port}`,
    close: () => child.kill(),
    /** Kills it, without a word to anybody, and starts it again where it was. */
    async restart() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
      await start();
    },
  };
}
