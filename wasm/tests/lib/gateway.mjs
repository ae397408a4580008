// Runs HopMQ's gateway in front of the broker at AMQP_URL. HOPMQ_GATEWAY_BIN names the program.

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

/** Starts the gateway; `settings` are environment variables. */
export async function gateway(settings = {}) {
  const program = process.env.HOPMQ_GATEWAY_BIN;
  if (program === undefined) throw new Error("HOPMQ_GATEWAY_BIN is not set: run `cargo xtask test`");
  const port = await freePort();
  const broker = new URL(process.env.AMQP_URL);
  const unlimited = "1000000";
  const env = {
    PATH: process.env.PATH,
    HOPMQ_GATEWAY_LISTEN: `127.0.0.1:${port}`,
    HOPMQ_GATEWAY_UPSTREAM_HOSTS: `amqp://${broker.host}`,
    HOPMQ_GATEWAY_ORIGIN_ALLOW: "*",
    HOPMQ_GATEWAY_LOG_LEVEL: "error",
    HOPMQ_GATEWAY_LIMITS_CONNECTIONS_PER_ADDRESS: unlimited,
    HOPMQ_GATEWAY_LIMITS_CONNECTIONS_PER_USER: unlimited,
    HOPMQ_GATEWAY_LIMITS_UPGRADES_PER_MINUTE: unlimited,
    HOPMQ_GATEWAY_LIMITS_MESSAGES_PER_SECOND: unlimited,
    HOPMQ_GATEWAY_LIMITS_BYTES_PER_SECOND: "1GiB",
    ...settings,
  };
  let child;
  const start = async () => {
    child = spawn(program, [], { env, stdio: ["ignore", "inherit", "inherit"] });
    let exitCode;
    child.on("exit", (code) => (exitCode = code ?? -1));
    for (;;) {
      if (exitCode !== undefined) throw new Error(`the gateway exited with ${exitCode}`);
      try {
        if ((await fetch(`http://127.0.0.1:${port}/readyz`)).ok) break;
      } catch {
        // The gateway is not listening yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await start();
  return {
    url: `ws://127.0.0.1:${port}/ws/amqp`,
    http: `http://127.0.0.1:${port}`,
    close: () => child.kill(),
    /** Kills the gateway without closing its connections, and restarts it on the same port. */
    async restart() {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
      await start();
    },
  };
}
