// Messages: decoded from delivery batches, and only as far as the program reads them.

import type { Codec, Message as Api, Properties, TextProperty } from "../types/index.js";
import { decodeProperties, propertyBytes, text } from "./encoding.js";

/** The channel that settles deliveries. */
export interface Settler {
  settle(tag: number, link: number, how: number): void;
}

/** Bits of `settle`. */
export const ACK = 0;
export const NACK = 1;
export const REJECT = 2;
export const MULTIPLE = 4;
export const REQUEUE = 8;

const REDELIVERED = 1 << 16;
const SEPARATE_BODY = 1 << 17;
const HEAD_SIZE = 32;

/** A batch in the format of `wasm/src/npm/delivery_batch.rs`. */
export type RawBatch = [Uint8Array, Uint8Array[] | undefined];

export class Message<T> implements Api<T> {
  readonly #batch: DeliveryBatch<T>;
  readonly #at: number;
  readonly #large: Uint8Array | undefined;
  #properties: Properties | undefined;
  #body: T | undefined;

  /** Reads the record that begins at the word `at`. */
  constructor(batch: DeliveryBatch<T>, at: number, large: Uint8Array | undefined) {
    this.#batch = batch;
    this.#at = at;
    this.#large = large;
  }

  #word(index: number): number {
    return this.#batch.words[this.#at + index]!;
  }

  /** The queue that the message was taken from, for codecs. */
  get queue(): string | undefined {
    return this.#batch.queue;
  }

  get deliveryTag(): number {
    return this.#word(1) + this.#word(2) * 0x100000000;
  }

  get redelivered(): boolean {
    return (this.#word(5) & REDELIVERED) !== 0;
  }

  get exchange(): string {
    const start = this.#at * 4 + HEAD_SIZE;
    return text(this.#batch.bytes, start, start + (this.#word(6) & 255));
  }

  get routingKey(): string {
    const lengths = this.#word(6);
    const start = this.#at * 4 + HEAD_SIZE + (lengths & 255);
    return text(this.#batch.bytes, start, start + (lengths >> 8));
  }

  get properties(): Properties {
    return (this.#properties ??= this.#readProperties());
  }

  #readProperties(): Properties {
    const start = this.#propertiesStart();
    return decodeProperties(this.#batch.bytes, start, start + this.#word(4), this.#word(5));
  }

  #propertiesStart(): number {
    const lengths = this.#word(6);
    return this.#at * 4 + HEAD_SIZE + (lengths & 255) + (lengths >> 8);
  }

  bytesOf(name: "exchange" | "routingKey" | TextProperty): Uint8Array | undefined {
    const bytes = this.#batch.bytes;
    const names = this.#at * 4 + HEAD_SIZE;
    const keyStart = names + (this.#word(6) & 255);
    const start = this.#propertiesStart();
    if (name === "exchange") return bytes.slice(names, keyStart);
    if (name === "routingKey") return bytes.slice(keyStart, start);
    return propertyBytes(bytes, start, start + this.#word(4), this.#word(5), name);
  }

  get raw(): Uint8Array {
    if (this.#large !== undefined) return this.#large;
    const start = this.#propertiesStart() + this.#word(4);
    return this.#batch.bytes.subarray(start, start + this.#word(3));
  }

  get body(): T {
    return (this.#body ??= this.#batch.codec.decode(this.raw, this));
  }

  /** The number of the link that delivered the message. */
  get link(): number {
    return this.#word(7);
  }

  ack(multiple = false): void {
    this.#settle(multiple ? ACK | MULTIPLE : ACK);
  }

  nack(options: { requeue?: boolean; multiple?: boolean } = {}): void {
    this.#settle(NACK | ((options.requeue ?? true) ? REQUEUE : 0) | (options.multiple ? MULTIPLE : 0));
  }

  reject(options: { requeue?: boolean } = {}): void {
    this.#settle(REJECT | (options.requeue ? REQUEUE : 0));
  }

  #settle(how: number): void {
    this.#batch.settler?.settle(this.deliveryTag, this.link, how);
  }
}

/** Yields the messages of a batch. */
export class DeliveryBatch<T> {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  #largeBodies: Uint8Array[] | undefined;
  #at = 0;
  #largeTaken = 0;

  constructor(
    [bytes, largeBodies]: RawBatch, readonly settler: Settler | undefined, readonly codec: Codec<T>,
    readonly queue?: string,
  ) {
    this.bytes = bytes;
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    this.#largeBodies = largeBodies;
  }

  next(): Message<T> | undefined {
    const at = this.#at;
    if (at >= this.words.length) {
      // A message that the program keeps must not keep the large bodies of its neighbours.
      this.#largeBodies = undefined;
      return undefined;
    }
    this.#at = at + (this.words[at]! >> 2);
    const separate = (this.words[at + 5]! & SEPARATE_BODY) !== 0;
    return new Message(this, at, separate ? this.#largeBodies![this.#largeTaken++] : undefined);
  }
}
