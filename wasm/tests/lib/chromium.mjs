// The system's Chromium, and an HTTP server for its pages.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
  ".css": "text/css", ".json": "application/json",
};

/** Serves folders by path prefix, `{ "/": folder }`, the longest prefix first, and `page` at `/`. */
export async function serve(folders, page) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    if (path === "/" && page !== undefined) {
      response.writeHead(200, { "content-type": "text/html" }).end(page);
      return;
    }
    const prefix = prefixes.find((candidate) => path.startsWith(candidate));
    try {
      const rest = path.slice(prefix?.length);
      const file = join(folders[prefix], rest === "" ? "index.html" : rest);
      const body = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(path === "/favicon.ico" ? 204 : 404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export function launch() {
  const executablePath = process.env.HOPMQ_CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** Opens a page, and logs its errors. */
export async function open(browser, url, log = console.error) {
  const page = await browser.newPage();
  // The tests break sockets on purpose, and the browser logs each.
  const expected = /WebSocket|favicon|ERR_CONNECTION/;
  page.on("console", (message) => {
    if (!expected.test(message.text())) log(`  [page] ${message.text()}`);
  });
  page.on("pageerror", (error) => log(`  [page] ${error.stack ?? error}`));
  await page.goto(url);
  return page;
}
