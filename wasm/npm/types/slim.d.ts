export * from "./index.js";

/**
 * Sets the source of the WebAssembly; call it before `connect`. The source is a URL, a response, bytes, or a compiled
 * module: `import url from "hopmq/hopmq.wasm?url"`, in your bundler's syntax.
 */
export function init(
  wasm: string | URL | Response | Promise<Response> | ArrayBuffer | ArrayBufferView | WebAssembly.Module,
): void;
