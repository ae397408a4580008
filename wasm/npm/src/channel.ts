// The plain AMQP channel, for what the session's queues and exchanges do not cover.

import type { RawQueue } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { bytes as bytesCodec } from "./codecs.js";
import { Consumer } from "./consumer.js";
import { encodeAddress, encodeTable, utf8 } from "./encoding.js";
import { call, toError } from "./errors.js";
import type { InnerChannel } from "./inner-channel.js";
import { DeliveryBatch, type Message, type RawBatch } from "./message.js";

// Flags of a declaration, as in `wasm/src/npm/channel.rs`.
const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const INTERNAL = 16;

function declareFlags(options: api.QueueOptions & api.ExchangeOptions): number {
  return (
    (options.passive ? PASSIVE : 0) | (options.durable ? DURABLE : 0) | (options.exclusive ? EXCLUSIVE : 0) |
    (options.autoDelete ? AUTO_DELETE : 0) | (options.internal ? INTERNAL : 0)
  );
}

/** The requests that channels and sessions share. */
export const requests = {
  async declareQueue(channel: InnerChannel, name: string, options: api.QueueOptions) {
    const work = () => channel.raw.declareQueue(name, declareFlags(options), encodeTable(options.arguments));
    const [queue, messageCount, consumerCount] = await call<[RawQueue, number, number]>(work);
    return { queue, messageCount, consumerCount };
  },
  declareExchange(channel: InnerChannel, name: string, type: string, options: api.ExchangeOptions): Promise<void> {
    const args = options.arguments;
    return call(async () => channel.raw.declareExchange(name, type, declareFlags(options), encodeTable(args)));
  },
  bind(
    channel: InnerChannel, undo: boolean, exchange: boolean, to: string, from: string, key: string,
    args?: api.FieldTable,
  ) {
    return call<void>(async () => channel.raw.bind(undo, exchange, to, from, key, encodeTable(args)));
  },
  async get<T>(channel: InnerChannel, queue: string, noAck: boolean, codec: api.Codec<T>) {
    const got = await call<[RawBatch, number] | undefined>(() => channel.raw.get(queue, noAck));
    if (got === undefined) return undefined;
    const message = new DeliveryBatch(got[0], noAck ? undefined : channel, codec, queue).next()!;
    return Object.assign(message, { messageCount: got[1] });
  },
  consume(channel: InnerChannel, queue: string, options: api.ConsumeOptions) {
    const { tag, prefetch, noAck = false, exclusive = false } = options;
    return call<import("../pkg/hopmq.js").RawConsumer>(async () =>
      channel.raw.consume(queue, tag, prefetch, noAck, exclusive, encodeTable(options.arguments)),
    );
  },
  onReturn(channel: InnerChannel, listener: (returned: api.ReturnedMessage) => void): void {
    channel.raw.returns((batch: RawBatch, code: number, reason: string) =>
      listener({ code, reason, message: new DeliveryBatch(batch, undefined, bytesCodec).next()! }),
    );
  },
};

export class Channel implements api.Channel {
  readonly #inner: InnerChannel;

  constructor(inner: InnerChannel) {
    this.#inner = inner;
  }

  get id(): number {
    return this.#inner.raw.id;
  }

  get isOpen(): boolean {
    return this.#inner.raw.isOpen();
  }

  async declareQueue(name: string, options: api.QueueOptions = {}) {
    const { queue, ...counts } = await requests.declareQueue(this.#inner, name, options);
    return { name: queue.name, ...counts };
  }

  deleteQueue(name: string, options: { ifUnused?: boolean; ifEmpty?: boolean } = {}): Promise<number> {
    return call(() => this.#inner.raw.deleteQueue(name, options.ifUnused ?? false, options.ifEmpty ?? false));
  }

  purgeQueue(name: string): Promise<number> {
    return call(() => this.#inner.raw.purge(name));
  }

  bindQueue(queue: string, exchange: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#inner, false, false, queue, exchange, key, args);
  }

  unbindQueue(queue: string, exchange: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#inner, true, false, queue, exchange, key, args);
  }

  declareExchange(name: string, type: string, options: api.ExchangeOptions = {}): Promise<void> {
    return requests.declareExchange(this.#inner, name, type, options);
  }

  deleteExchange(name: string, options: { ifUnused?: boolean } = {}): Promise<void> {
    return call(() => this.#inner.raw.deleteExchange(name, options.ifUnused ?? false));
  }

  bindExchange(destination: string, source: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#inner, false, true, destination, source, key, args);
  }

  unbindExchange(destination: string, source: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#inner, true, true, destination, source, key, args);
  }

  async publish(
    exchange: string, key: string, body: Uint8Array | string, options: api.PublishOptions = {},
  ): Promise<void> {
    return this.#inner.publish(encodeAddress(exchange, key, options), asBytes(body), true);
  }

  async send(
    exchange: string, key: string, body: Uint8Array | string, options: api.PublishOptions = {},
  ): Promise<void> {
    return this.#inner.publish(encodeAddress(exchange, key, options), asBytes(body), false);
  }

  trySend(exchange: string, key: string, body: Uint8Array | string, options: api.PublishOptions = {}): boolean {
    return this.#inner.tryPublish(encodeAddress(exchange, key, options), asBytes(body));
  }

  async consume(queue: string, options: api.ConsumeOptions = {}): Promise<Consumer<Uint8Array>> {
    const channel = this.#inner;
    const consumer = new Consumer({
      start: async () => ({ raw: await requests.consume(channel, queue, options), channel, queue }),
      ownsChannel: false,
      codec: bytesCodec,
      options,
    });
    await consumer.ready;
    return consumer;
  }

  get(
    queue: string, options: { noAck?: boolean } = {},
  ): Promise<(Message<Uint8Array> & { messageCount: number }) | undefined> {
    return requests.get(this.#inner, queue, options.noAck ?? false, bytesCodec);
  }

  prefetch(count: number, options: { shared?: boolean } = {}): Promise<void> {
    return call(() => this.#inner.raw.prefetch(count, options.shared ?? false));
  }

  onReturn(listener: (returned: api.ReturnedMessage) => void): void {
    requests.onReturn(this.#inner, listener);
  }

  recover(): Promise<void> {
    return call(() => this.#inner.raw.recover());
  }

  txSelect(): Promise<void> {
    return call(() => this.#inner.raw.tx(0));
  }

  txCommit(): Promise<void> {
    return call(() => this.#inner.raw.tx(1));
  }

  txRollback(): Promise<void> {
    return call(() => this.#inner.raw.tx(2));
  }

  flow(active: boolean): Promise<boolean> {
    return call(() => this.#inner.raw.flow(active));
  }

  async close(): Promise<void> {
    if (!this.isOpen) return;
    try {
      await this.#inner.raw.close();
    } catch (thrown) {
      throw toError(thrown);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function asBytes(body: Uint8Array | string): Uint8Array {
  return typeof body === "string" ? utf8(body) : body;
}
