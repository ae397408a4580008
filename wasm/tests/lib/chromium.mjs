// The system's Chromium, and a server for the pages that it opens.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
  ".css": "text/css", ".json": "application/json",
};

/** Serves folders: `{ "/": folder }`, the longest prefix first. */
export async function serve(folders) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    const prefix = prefixes.find((known) => path.startsWith(known));
    try {
      const rest = path.slice(prefix.length);
      const file = join(folders[prefix], rest === "" ? "index.html" : rest);
      const body = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404, { "content-type": "text/html" }).end("<!doctype html><title>empty</title>");
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export function launch() {
  const executablePath = process.env.HOPMQ_CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page that reports what goes wrong in it. */
export async function open(browser, url, log = console.error) {
  const page = await browser.newPage();
  page.on("console", (message) => log(`  [page] ${message.text()}`));
  page.on("pageerror", (error) => log(`  [page] ${error.stack ?? error}`));
  await page.goto(url);
  return page;
}
