// The package bundled by Vite, webpack and esbuild, and `hopmq/slim` with separate WebAssembly. Chromium opens each
// bundle, and a page of Vite's development server with the proxy of the README.

import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build as esbuild } from "esbuild";
import { createServer, createLogger, build as vite } from "vite";
import webpack from "webpack";
import { launch, open, serve } from "./lib/chromium.mjs";
import { gateway } from "./lib/gateway.mjs";
import { Report } from "./lib/report.mjs";

const PROGRAM = `
globalThis.result = (async () => {
  const session = await connect(globalThis.gateway);
  const queue = await session.queue("", { exclusive: true });
  await queue.publish({ through: "a bundle" });
  const message = await queue.get({ noAck: true });
  await session.close();
  return JSON.stringify(message.body);
})();
`;

const EXPECTED = '{"through":"a bundle"}';

const BUNDLERS = {
  async esbuild(entry, out) {
    const options = { bundle: true, format: "esm", platform: "browser", logLevel: "warning" };
    await esbuild({ ...options, entryPoints: [entry], outfile: join(out, "main.js") });
  },
  async vite(entry, out, folder) {
    const output = { entryFileNames: "main.js" };
    const build = { outDir: out, emptyOutDir: true, modulePreload: false, rollupOptions: { input: entry, output } };
    const customLogger = createLogger("warn");
    const warnings = [];
    customLogger.warn = (warning) => warnings.push(warning);
    await vite({ root: folder, customLogger, configFile: false, build });
    if (warnings.length > 0) throw new Error(warnings.join("\n"));
  },
  async webpack(entry, out) {
    const output = { path: out, filename: "main.js" };
    const config = { mode: "production", entry, output, performance: { hints: false } };
    const stats = await new Promise((resolve, reject) => {
      webpack(config, (error, done) => (error ? reject(error) : resolve(done)));
    });
    if (stats.hasErrors() || stats.hasWarnings()) {
      throw new Error(stats.toString({ all: false, errors: true, warnings: true }));
    }
  },
  async slim(entry, out, folder) {
    copyFileSync(join(folder, "node_modules/hopmq/dist/hopmq.wasm"), join(out, "hopmq.wasm"));
    await BUNDLERS.esbuild(entry, out);
  },
};

/** Opens a page of Vite's development server, which forwards the WebSocket as wasm/README.md says. */
async function developmentServer(browser, app) {
  const upstream = await gateway({ HOPMQ_GATEWAY_ORIGIN_ALLOW: "same-origin" });
  const program = 'import { connect } from "hopmq";\nglobalThis.gateway = `ws://${location.host}/ws/amqp`;' + PROGRAM;
  writeFileSync(join(app, "development.js"), program);
  writeFileSync(join(app, "index.html"), '<!doctype html><script type="module" src="/development.js"></script>');
  const proxy = { "/ws/amqp": { target: upstream.http, ws: true } };
  const server = await createServer({
    root: app, configFile: false, logLevel: "warn", server: { host: "127.0.0.1", proxy, hmr: false },
  });
  try {
    await server.listen();
    const page = await open(browser, server.resolvedUrls.local[0]);
    await page.waitForFunction(() => globalThis.result !== undefined, undefined, { timeout: 60_000 });
    const got = await page.evaluate(() => globalThis.result);
    if (got !== EXPECTED) throw new Error(`expected the published message, got ${got}`);
    await page.close();
  } finally {
    await server.close();
    upstream.close();
  }
}

export async function bundles(app, url) {
  const report = new Report("bundles, opened in Chromium");
  const browser = await launch();
  for (const [name, bundle] of Object.entries(BUNDLERS)) {
    const out = join(app, "bundles", name);
    mkdirSync(out, { recursive: true });
    const entry = join(app, `${name}.js`);
    const slim = 'import { connect, init } from "hopmq/slim";\ninit(new URL("/hopmq.wasm", location.href));';
    writeFileSync(entry, (name === "slim" ? slim : 'import { connect } from "hopmq";') + PROGRAM);
    const start = performance.now();
    try {
      await bundle(entry, out, app);
      const server = await serve({ "/": out }, "<!doctype html><title>bundle</title>");
      const page = await open(browser, server.url);
      const got = await page.evaluate(async (url) => {
        globalThis.gateway = url;
        const script = Object.assign(document.createElement("script"), { type: "module", src: "/main.js" });
        await new Promise((resolve, reject) => {
          Object.assign(script, { onload: resolve, onerror: () => reject(new Error("the bundle did not load")) });
          document.head.append(script);
        });
        return globalThis.result;
      }, url);
      if (got !== EXPECTED) throw new Error(`expected the published message, got ${got}`);
      await page.close();
      server.close();
      report.add(name, undefined, performance.now() - start);
    } catch (error) {
      report.add(name, String(error.stack ?? error), performance.now() - start);
    }
  }
  const start = performance.now();
  try {
    await developmentServer(browser, app);
    report.add("vite's development server", undefined, performance.now() - start);
  } catch (error) {
    report.add("vite's development server", String(error.stack ?? error), performance.now() - start);
  }
  await browser.close();
  return report.finish();
}
