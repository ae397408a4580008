// The entry for Node, Deno and Bun: the WebAssembly is a file beside this one.

import { provide } from "./load.js";

export * from "./api.js";

provide(async () => {
  const { readFile } = await import("node:fs/promises");
  return readFile(new URL("./hopmq.wasm", import.meta.url));
});
