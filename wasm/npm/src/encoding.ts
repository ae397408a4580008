// The AMQP encoding of field tables and properties (AMQP 0-9-1 section 4.2.5, RabbitMQ's errata on field types). Both
// pass to and from WebAssembly in this encoding, so that properties the program never reads are never decoded.

import type { FieldTable, FieldValue, Properties, TextProperty } from "../types/index.js";
import { AmqpError } from "./errors.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Decodes UTF-8. Short ASCII is decoded here, because a call of `TextDecoder` costs more. */
export function text(bytes: Uint8Array, start: number, end: number): string {
  if (end - start < 24) {
    let result = "";
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      if (byte > 127) return decoder.decode(bytes.subarray(start, end));
      result += String.fromCharCode(byte);
    }
    return result;
  }
  return decoder.decode(bytes.subarray(start, end));
}

function misuse(message: string): AmqpError {
  return new AmqpError(message, { kind: "usage", scope: "caller" });
}

/** A growing output buffer. */
class Writer {
  bytes = new Uint8Array(512);
  view = new DataView(this.bytes.buffer);
  length = 0;

  /** Makes room for `count` bytes, and returns where they begin. May replace `bytes` and `view`. */
  reserve(count: number): number {
    const at = this.length;
    const end = at + count;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    this.length = end;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.bytes[at] = value;
  }

  u32(value: number): void {
    const at = this.reserve(4);
    this.view.setUint32(at, value);
  }

  i32(value: number): void {
    const at = this.reserve(4);
    this.view.setInt32(at, value);
  }

  i64(value: bigint): void {
    const at = this.reserve(8);
    this.view.setBigInt64(at, value);
  }

  f64(value: number): void {
    const at = this.reserve(8);
    this.view.setFloat64(at, value);
  }

  raw(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  shortString(value: string, what: string): void {
    const bytes = encoder.encode(value);
    if (bytes.length > 255) throw misuse(`${what} has ${bytes.length} bytes; AMQP allows at most 255`);
    this.u8(bytes.length);
    this.raw(bytes);
  }

  longString(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.raw(bytes);
  }

  /** Writes the length of the output of `write`, then that output. */
  lengthPrefixed(write: () => void): void {
    const at = this.reserve(4);
    write();
    this.view.setUint32(at, this.length - at - 4);
  }

  table(table: FieldTable, depth: number): void {
    for (const [key, value] of Object.entries(table)) {
      if (value === undefined) continue;
      this.shortString(key, `the key ${JSON.stringify(key)}`);
      this.value(value, depth);
    }
  }

  tag(type: string): void {
    this.u8(type.charCodeAt(0));
  }

  value(value: FieldValue, depth: number): void {
    if (depth > 32) throw misuse("tables are nested more than 32 levels deep");
    switch (typeof value) {
      case "boolean":
        this.tag("t");
        return this.u8(value ? 1 : 0);
      case "string":
        this.tag("S");
        return this.longString(encoder.encode(value));
      case "bigint":
        if (BigInt.asIntN(64, value) !== value) throw misuse(`${value} does not fit in 64 bits`);
        this.tag("l");
        return this.i64(value);
      case "number":
        return this.number(value);
    }
    if (value === null || value === undefined) return this.tag("V");
    if (value instanceof Date) {
      this.tag("T");
      return this.i64(seconds(value));
    }
    if (value instanceof Uint8Array) {
      this.tag("x");
      return this.longString(value);
    }
    if (Array.isArray(value)) {
      this.tag("A");
      return this.lengthPrefixed(() => value.forEach((item) => this.value(item, depth + 1)));
    }
    if (typeof value === "object") {
      this.tag("F");
      return this.lengthPrefixed(() => this.table(value as FieldTable, depth + 1));
    }
    throw misuse(`a ${typeof value} can't be sent as a header or argument`);
  }

  number(value: number): void {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
      if (value >= -0x80000000 && value <= 0x7fffffff) {
        this.tag("I");
        this.i32(value);
      } else {
        this.tag("l");
        this.i64(BigInt(value));
      }
    } else {
      this.tag("d");
      this.f64(value);
    }
  }

  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }
}

const writer = new Writer();

function written(write: () => void): Uint8Array {
  writer.length = 0;
  write();
  return writer.take();
}

function seconds(date: Date): bigint {
  const time = date.getTime();
  if (Number.isNaN(time)) throw misuse("an invalid Date can't be sent");
  return BigInt(Math.floor(time / 1000));
}

const NOTHING = new Uint8Array(0);

/** Encodes the entries of a table, without the length prefix. */
export function encodeTable(table: FieldTable | undefined): Uint8Array {
  return table === undefined ? NOTHING : written(() => writer.table(table, 1));
}

/** The properties in the order of their flags, from the highest bit on. */
const PROPERTIES = [
  "contentType", "contentEncoding", "headers", "deliveryMode", "priority", "correlationId", "replyTo", "expiration",
  "messageId", "timestamp", "type", "userId", "appId", "clusterId",
] as const;

/** Exchange, routing key and properties of a publish, concatenated in `bytes`. */
export interface Address {
  bytes: Uint8Array;
  exchangeLength: number;
  keyLength: number;
  flags: number;
}

const MANDATORY = 1 << 16;

/** Encodes the exchange, routing key and properties of a publish. */
export function encodeAddress(exchange: string, key: string, p: Properties & { mandatory?: boolean }): Address {
  let flags = p.mandatory ? MANDATORY : 0;
  let exchangeLength = 0;
  let keyLength = 0;
  const bytes = written(() => {
    writer.raw(encoder.encode(exchange));
    exchangeLength = writer.length;
    writer.raw(encoder.encode(key));
    keyLength = writer.length - exchangeLength;
    for (let i = 0; i < PROPERTIES.length; i++) {
      const name = PROPERTIES[i]!;
      const value = p[name];
      if (value === undefined) continue;
      flags |= 0x8000 >> i;
      property(name, value as never);
    }
  });
  return { bytes, exchangeLength, keyLength, flags };
}

function property(name: (typeof PROPERTIES)[number], value: string & number & FieldTable & Date): void {
  switch (name) {
    case "headers":
      return writer.lengthPrefixed(() => writer.table(value, 1));
    case "deliveryMode":
    case "priority":
      if (!Number.isInteger(value) || value < 0 || value > 255) {
        throw misuse(`${name} must be 0 to 255, but is ${value}`);
      }
      return writer.u8(value);
    case "timestamp":
      return writer.i64(seconds(value));
    default:
      return writer.shortString(String(value), name);
  }
}

class Reader {
  readonly view: DataView;

  constructor(readonly bytes: Uint8Array, public at: number, readonly end: number) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Skips the next `count` bytes, and returns where they begin. */
  skip(count: number): number {
    const at = this.at;
    this.at = at + count;
    if (this.at > this.end) {
      throw new AmqpError("the message has malformed properties", { kind: "protocol", scope: "message" });
    }
    return at;
  }

  u8(): number {
    return this.bytes[this.skip(1)]!;
  }

  shortString(): string {
    const length = this.u8();
    const at = this.skip(length);
    return text(this.bytes, at, at + length);
  }

  /** Returns a reader of the next length-prefixed part. */
  part(): Reader {
    const length = this.view.getUint32(this.skip(4));
    const at = this.skip(length);
    return new Reader(this.bytes, at, at + length);
  }

  integer(value: bigint): number | bigint {
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
  }

  date(): Date {
    return new Date(Number(this.view.getBigInt64(this.skip(8))) * 1000);
  }

  table(depth: number): FieldTable {
    const table: FieldTable = {};
    while (this.at < this.end) {
      const key = this.shortString();
      const value = this.value(depth);
      // Assigning to `__proto__` would set the prototype instead.
      if (key === "__proto__") {
        Object.defineProperty(table, key, { value, enumerable: true, configurable: true, writable: true });
      } else {
        table[key] = value;
      }
    }
    return table;
  }

  value(depth: number): FieldValue {
    const view = this.view;
    const type = String.fromCharCode(this.u8());
    switch (type) {
      case "S": {
        const part = this.part();
        return text(this.bytes, part.at, part.end);
      }
      case "I":
        return view.getInt32(this.skip(4));
      case "t":
        return this.u8() !== 0;
      case "l":
        return this.integer(view.getBigInt64(this.skip(8)));
      case "L":
        return this.integer(view.getBigUint64(this.skip(8)));
      case "d":
        return view.getFloat64(this.skip(8));
      case "f":
        return view.getFloat32(this.skip(4));
      case "b":
        return view.getInt8(this.skip(1));
      case "B":
        return this.u8();
      case "s":
        return view.getInt16(this.skip(2));
      case "u":
        return view.getUint16(this.skip(2));
      case "i":
        return view.getUint32(this.skip(4));
      case "D": {
        const scale = this.u8();
        return view.getInt32(this.skip(4)) / 10 ** scale;
      }
      case "T":
        return this.date();
      case "V":
        return null;
      case "x": {
        const part = this.part();
        return this.bytes.slice(part.at, part.end);
      }
    }
    if (depth > 32 || (type !== "A" && type !== "F")) {
      throw new AmqpError(
        `unknown field type ${JSON.stringify(type)} in the headers`, { kind: "protocol", scope: "message" },
      );
    }
    const part = this.part();
    if (type === "F") return part.table(depth + 1);
    const items: FieldValue[] = [];
    while (part.at < part.end) items.push(part.value(depth + 1));
    return items;
  }
}

export function decodeTable(bytes: Uint8Array): FieldTable {
  return new Reader(bytes, 0, bytes.length).table(1);
}

/** Returns the bytes of a text property among those that `flags` announces; `undefined` if it is not set. */
export function propertyBytes(
  bytes: Uint8Array, at: number, end: number, flags: number, wanted: TextProperty,
): Uint8Array | undefined {
  const reader = new Reader(bytes, at, end);
  for (let i = 0; i < PROPERTIES.length; i++) {
    if ((flags & (0x8000 >> i)) === 0) continue;
    const name = PROPERTIES[i]!;
    let length: number;
    switch (name) {
      case "headers":
        reader.part();
        continue;
      case "deliveryMode":
      case "priority":
        length = 1;
        break;
      case "timestamp":
        length = 8;
        break;
      default:
        length = reader.u8();
    }
    const start = reader.skip(length);
    if (name === wanted) return bytes.slice(start, start + length);
  }
  return undefined;
}

/** Decodes the properties that `flags` announces from `bytes`, between `at` and `end`. */
export function decodeProperties(bytes: Uint8Array, at: number, end: number, flags: number): Properties {
  const result: Record<string, unknown> = {};
  if ((flags & 0xffff) === 0) return result;
  const reader = new Reader(bytes, at, end);
  for (let i = 0; i < PROPERTIES.length; i++) {
    if ((flags & (0x8000 >> i)) === 0) continue;
    const name = PROPERTIES[i]!;
    switch (name) {
      case "headers":
        result[name] = reader.part().table(1);
        break;
      case "deliveryMode":
      case "priority":
        result[name] = reader.u8();
        break;
      case "timestamp":
        result[name] = reader.date();
        break;
      default:
        result[name] = reader.shortString();
    }
  }
  return result;
}
