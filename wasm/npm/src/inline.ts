// The default entry: the WebAssembly is in the file, so that neither bundlers nor servers need to know of it.

import base64 from "../pkg/hopmq.wasm";
import { provide } from "./load.js";

export * from "./api.js";

provide(() => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
