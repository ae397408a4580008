// The default entry: the WebAssembly is in the file, compressed, so that neither bundlers nor servers need to know of
// it.

import base64 from "../pkg/hopmq.wasm.gz";
import { provide } from "./load.js";

export * from "./api.js";

provide(() => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
});
