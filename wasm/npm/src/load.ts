// Loads the WebAssembly once, when it is first needed. Each entry of the package says where it is.

import start, { type InitInput } from "../pkg/hopmq.js";
import { AmqpError } from "./errors.js";

type Source = () => InitInput | Promise<InitInput>;

let source: Source | undefined;
let loading: Promise<unknown> | undefined;

export function provide(where: Source): void {
  source = where;
  loading = undefined;
}

export async function load(): Promise<void> {
  const where = source;
  if (where === undefined) {
    throw new AmqpError("hopmq/slim does not know where its WebAssembly is: call init() first", { kind: "config" });
  }
  loading ??= (async () => start({ module_or_path: await where() }))();
  try {
    await loading;
  } catch (cause) {
    // The next attempt may find the network, or a policy that allows WebAssembly.
    loading = undefined;
    throw new AmqpError(`the WebAssembly can't be loaded: ${String(cause)}`, { kind: "config", cause });
  }
}
