// Codecs: they convert values to bodies and back.

import type { Codec } from "../types/index.js";
import { text as decodeText, utf8 } from "./encoding.js";
import { AmqpError } from "./errors.js";

export const bytes: Codec<Uint8Array> = {
  encode: (value) => ({ body: value }),
  decode: (raw) => raw,
};

export const text: Codec<string> = {
  encode: (value) => ({ body: utf8(value), contentType: "text/plain" }),
  decode: (raw) => decodeText(raw, 0, raw.length),
};

export function json<T>(): Codec<T> {
  return {
    encode(value) {
      let encoded: string | undefined;
      let reason = "";
      try {
        encoded = JSON.stringify(value);
      } catch (thrown) {
        reason = `: ${(thrown as Error).message}`;
      }
      if (encoded !== undefined) return { body: utf8(encoded), contentType: "application/json" };
      throw new AmqpError(`${described(value)} can't be sent as JSON${reason}`, { kind: "usage" });
    },
    decode(raw, message) {
      try {
        return JSON.parse(decodeText(raw, 0, raw.length)) as T;
      } catch (cause) {
        const source = message.queue === undefined ? "" : ` from queue ${JSON.stringify(message.queue)}`;
        const type = JSON.stringify(message.properties.contentType) ?? "none";
        const what = `the body of a message${source} is not valid JSON (content type: ${type})`;
        throw new AmqpError(what, { kind: "protocol", scope: "message", cause });
      }
    },
  };
}

function described(value: unknown): string {
  if (value === undefined) return "undefined";
  return typeof value === "object" ? "this object" : `a ${typeof value}`;
}

const anyJson = json<unknown>();

/** Sends bytes as they are, text as text, and anything else as JSON; decodes by content type. */
export const automatic: Codec<unknown> = {
  encode(value) {
    if (value instanceof Uint8Array) return bytes.encode(value);
    if (value instanceof ArrayBuffer) return bytes.encode(new Uint8Array(value));
    return typeof value === "string" ? text.encode(value) : anyJson.encode(value);
  },
  decode(raw, message) {
    const type = message.properties.contentType ?? "";
    if (type.startsWith("application/json")) return anyJson.decode(raw, message);
    return type.startsWith("text/") ? text.decode(raw, message) : raw;
  },
};
