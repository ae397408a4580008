// `AmqpError`, and the conversion of WebAssembly's errors.

import type { ErrorKind, ErrorScope } from "../types/index.js";

export class AmqpError extends Error {
  override readonly name = "AmqpError";
  readonly code: number;
  readonly scope: ErrorScope;
  readonly kind: ErrorKind;

  constructor(message: string, options: { kind: ErrorKind; scope?: ErrorScope; code?: number; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = options.kind;
    this.code = options.code ?? 0;
    this.scope = options.scope ?? scopeOf(options.kind);
  }
}

function scopeOf(kind: ErrorKind): ErrorScope {
  switch (kind) {
    case "nacked":
    case "returned":
      return "message";
    case "channel-closed":
    case "consumer-cancelled":
      return "channel";
    case "connection-closed":
    case "authentication":
    case "protocol":
      return "connection";
    case "usage":
    case "config":
    case "closed":
      return "caller";
    default:
      return "transport";
  }
}

/** Converts a value thrown by WebAssembly, which is `[kind, code, message]` or an error. */
export function toError(thrown: unknown): Error {
  if (Array.isArray(thrown)) {
    const [kind, code, message] = thrown as [ErrorKind, number, string];
    return new AmqpError(message, { kind, code });
  }
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Calls WebAssembly, and converts its errors. */
export async function call<T>(work: () => Promise<unknown>): Promise<T> {
  try {
    return (await work()) as T;
  } catch (thrown) {
    throw toError(thrown);
  }
}
