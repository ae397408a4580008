// Loads the WebAssembly once, on first use. Each entry of the package provides its source.

import start, { type InitInput } from "../pkg/hopmq.js";
import { AmqpError } from "./errors.js";

type Source = () => InitInput | Promise<InitInput>;

let provided: Source | undefined;
let loading: Promise<unknown> | undefined;

export function provide(source: Source): void {
  provided = source;
  loading = undefined;
}

export async function load(): Promise<void> {
  const source = provided;
  if (source === undefined) {
    throw new AmqpError("hopmq/slim has no WebAssembly: call init() before connect()", { kind: "config" });
  }
  loading ??= (async () => start({ module_or_path: await source() }))();
  try {
    await loading;
  } catch (cause) {
    // Let the next attempt load again.
    loading = undefined;
    throw new AmqpError(`could not load the WebAssembly: ${String(cause)}`, { kind: "config", cause });
  }
}
