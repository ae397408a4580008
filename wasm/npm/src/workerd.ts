// For Cloudflare's workers, which compile no WebAssembly at run time, but import it.

import module from "./hopmq.wasm";
import { provide } from "./load.js";

export * from "./api.js";

provide(() => module);
