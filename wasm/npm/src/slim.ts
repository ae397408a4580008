// For those who serve the WebAssembly themselves.

import type * as types from "../types/slim.js";
import { provide } from "./load.js";

export * from "./api.js";

export const init: typeof types.init = (wasm) => provide(() => wasm as never);
