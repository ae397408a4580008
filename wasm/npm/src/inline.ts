// The default entry. The file contains the WebAssembly, compressed, so that bundlers and servers need no settings.

import base64 from "../pkg/hopmq.wasm.gz";
import { provide } from "./load.js";

export * from "./api.js";

provide(() => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
});
