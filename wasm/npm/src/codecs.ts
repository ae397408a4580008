// Codecs: from values to bodies and back.

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

/** JSON of one type, without a check at run time. */
export function json<T>(): Codec<T> {
  return {
    encode(value) {
      const encoded = JSON.stringify(value);
      if (encoded === undefined) throw new AmqpError(`a ${typeof value} has no JSON`, { kind: "usage" });
      return { body: utf8(encoded), contentType: "application/json" };
    },
    decode(raw) {
      try {
        return JSON.parse(decodeText(raw, 0, raw.length)) as T;
      } catch (cause) {
        throw new AmqpError("the body is no JSON", { kind: "protocol", scope: "message", cause });
      }
    },
  };
}

const anyJson = json<unknown>();

/** Bytes as they are, text as text, all else as JSON; back by the content type. */
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
