// The entry for Cloudflare Workers, which can import WebAssembly but not compile it at run time.

import module from "./hopmq.wasm";
import { provide } from "./load.js";

export * from "./api.js";

provide(() => module);
