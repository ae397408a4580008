// The one error type, and how those of WebAssembly become it.

import type { ErrorKind, ErrorScope } from "../types/index.js";

export class AmqpError extends Error {
  override readonly name = "AmqpError";
  readonly code: number;
  readonly scope: ErrorScope;
  readonly kind: ErrorKind;

  constructor(message: string, o: { kind: ErrorKind; scope?: ErrorScope; code?: number; cause?: unknown }) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.kind = o.kind;
    this.code = o.code ?? 0;
    this.scope = o.scope ?? scopeOf(o.kind);
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

/** What WebAssembly threw: `[kind, code, message]`, or an error of its own. */
export function understand(thrown: unknown): Error {
  if (Array.isArray(thrown)) {
    const [kind, code, message] = thrown as [ErrorKind, number, string];
    return new AmqpError(message, { kind, code });
  }
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The result of a call into WebAssembly, with its errors understood. */
export async function call<T>(make: () => Promise<unknown>): Promise<T> {
  try {
    return (await make()) as T;
  } catch (thrown) {
    throw understand(thrown);
  }
}
