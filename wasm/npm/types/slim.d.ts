export * from "./index.js";

/**
 * Says where the WebAssembly is, before `connect`: its URL, a response that brings it, its bytes, or its module.
 * `import url from "hopmq/hopmq.wasm?url"`, in the words of your bundler.
 */
export function init(wasm: string | URL | Response | Promise<Response> | BufferSource | WebAssembly.Module): void;
