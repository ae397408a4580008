// Messages: read out of the batches in which they come, as far as somebody asks.

import type { Codec, Message as Api, Properties } from "../types/index.js";
import { decodeProperties, text } from "./encoding.js";

/** What settles deliveries: the channel that they came by. */
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
const APART = 1 << 17;
const HEAD = 32;

/** A batch, as `wasm/src/npm/delivery_batch.rs` describes it. */
export type RawBatch = [Uint8Array, Uint8Array[] | undefined];

export class Message<T> implements Api<T> {
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #at: number;
  readonly #large: Uint8Array | undefined;
  readonly #settler: Settler | undefined;
  readonly #codec: Codec<T>;
  #properties: Properties | undefined;
  #body: T | undefined;

  /** The record that begins at the word `at`. */
  constructor(
    bytes: Uint8Array, words: Uint32Array, at: number, large: Uint8Array | undefined, settler: Settler | undefined,
    codec: Codec<T>,
  ) {
    this.#bytes = bytes;
    this.#words = words;
    this.#at = at;
    this.#large = large;
    this.#settler = settler;
    this.#codec = codec;
  }

  get deliveryTag(): number {
    return this.#words[this.#at + 1]! + this.#words[this.#at + 2]! * 0x100000000;
  }

  get redelivered(): boolean {
    return (this.#words[this.#at + 5]! & REDELIVERED) !== 0;
  }

  get exchange(): string {
    const start = this.#at * 4 + HEAD;
    return text(this.#bytes, start, start + (this.#words[this.#at + 6]! & 255));
  }

  get routingKey(): string {
    const lengths = this.#words[this.#at + 6]!;
    const start = this.#at * 4 + HEAD + (lengths & 255);
    return text(this.#bytes, start, start + (lengths >> 8));
  }

  get properties(): Properties {
    return (this.#properties ??= this.#readProperties());
  }

  #readProperties(): Properties {
    const at = this.#at;
    const start = this.#start();
    return decodeProperties(this.#bytes, start, start + this.#words[at + 4]!, this.#words[at + 5]!);
  }

  /** Where the properties begin. */
  #start(): number {
    const lengths = this.#words[this.#at + 6]!;
    return this.#at * 4 + HEAD + (lengths & 255) + (lengths >> 8);
  }

  get raw(): Uint8Array {
    if (this.#large !== undefined) return this.#large;
    const start = this.#start() + this.#words[this.#at + 4]!;
    return this.#bytes.subarray(start, start + this.#words[this.#at + 3]!);
  }

  get body(): T {
    return (this.#body ??= this.#codec.decode(this.raw, this));
  }

  /** Which link of its channel it came by. */
  get link(): number {
    return this.#words[this.#at + 7]!;
  }

  ack(multiple = false): void {
    this.#settle(multiple ? ACK | MULTIPLE : ACK);
  }

  nack(o: { requeue?: boolean; multiple?: boolean } = {}): void {
    this.#settle(NACK | ((o.requeue ?? true) ? REQUEUE : 0) | (o.multiple ? MULTIPLE : 0));
  }

  reject(o: { requeue?: boolean } = {}): void {
    this.#settle(REJECT | (o.requeue ? REQUEUE : 0));
  }

  #settle(how: number): void {
    this.#settler?.settle(this.deliveryTag, this.link, how);
  }
}

/** Takes messages out of a batch, one by one. */
export class Batch<T> {
  readonly #words: Uint32Array;
  #at = 0;
  #large = 0;

  constructor(readonly raw: RawBatch, readonly settler: Settler | undefined, readonly codec: Codec<T>) {
    const bytes = raw[0];
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  }

  next(): Message<T> | undefined {
    const at = this.#at;
    if (at >= this.#words.length) return undefined;
    this.#at = at + (this.#words[at]! >> 2);
    const large = (this.#words[at + 5]! & APART) === 0 ? undefined : this.raw[1]![this.#large++];
    return new Message(this.raw[0], this.#words, at, large, this.settler, this.codec);
  }
}
