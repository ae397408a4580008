// The entry without WebAssembly, which the program provides with `init`.

import type * as types from "../types/slim.js";
import { provide } from "./load.js";

export * from "./api.js";

export const init: typeof types.init = (wasm) => provide(() => wasm as never);
