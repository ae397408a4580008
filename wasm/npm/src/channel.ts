// The channel as AMQP has it, for everything that queues and exchanges of a session do not cover.

import type { RawQueue } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { bytes as asIs } from "./codecs.js";
import { encodeAddress, encodeTable, utf8 } from "./encoding.js";
import { Consumer } from "./consumer.js";
import { call, understand } from "./errors.js";
import type { Link } from "./inner-channel.js";
import { Batch, type Message, type RawBatch } from "./message.js";

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const INTERNAL = 16;

function declaration(o: api.QueueOptions & api.ExchangeOptions): number {
  return (
    (o.passive ? PASSIVE : 0) | (o.durable ? DURABLE : 0) | (o.exclusive ? EXCLUSIVE : 0) |
    (o.autoDelete ? AUTO_DELETE : 0) | (o.internal ? INTERNAL : 0)
  );
}

/** The requests of a channel, for sessions too. */
export const requests = {
  async declareQueue(link: Link, name: string, o: api.QueueOptions) {
    const make = () => link.raw.declareQueue(name, declaration(o), encodeTable(o.arguments));
    const [queue, messageCount, consumerCount] = await call<[RawQueue, number, number]>(make);
    return { queue, messageCount, consumerCount };
  },
  declareExchange(link: Link, name: string, type: string, o: api.ExchangeOptions): Promise<void> {
    return call(async () => link.raw.declareExchange(name, type, declaration(o), encodeTable(o.arguments)));
  },
  bind(link: Link, undo: boolean, exchange: boolean, to: string, from: string, key: string, args?: api.FieldTable) {
    return call<void>(async () => link.raw.bind(undo, exchange, to, from, key, encodeTable(args)));
  },
  async get<T>(link: Link, queue: string, noAck: boolean, codec: api.Codec<T>) {
    const got = await call<[RawBatch, number] | undefined>(() => link.raw.get(queue, noAck));
    if (got === undefined) return undefined;
    const message = new Batch(got[0], noAck ? undefined : link, codec).next()!;
    return Object.assign(message, { messageCount: got[1] });
  },
  consume(link: Link, queue: string, o: api.ConsumeOptions) {
    const { tag, prefetch, noAck = false, exclusive = false } = o;
    return call<import("../pkg/hopmq.js").RawConsumer>(async () =>
      link.raw.consume(queue, tag, prefetch, noAck, exclusive, encodeTable(o.arguments)),
    );
  },
  onReturn(link: Link, f: (returned: api.ReturnedMessage) => void): void {
    link.raw.returns((batch: RawBatch, code: number, reason: string) =>
      f({ code, reason, message: new Batch(batch, undefined, asIs).next()! }),
    );
  },
};

export class Channel implements api.Channel {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  get id(): number {
    return this.#link.raw.id;
  }

  get isOpen(): boolean {
    return this.#link.raw.isOpen();
  }

  async declareQueue(name: string, o: api.QueueOptions = {}) {
    const { queue, ...counts } = await requests.declareQueue(this.#link, name, o);
    return { name: queue.name, ...counts };
  }

  deleteQueue(name: string, o: { ifUnused?: boolean; ifEmpty?: boolean } = {}): Promise<number> {
    return call(() => this.#link.raw.deleteQueue(name, o.ifUnused ?? false, o.ifEmpty ?? false));
  }

  purgeQueue(name: string): Promise<number> {
    return call(() => this.#link.raw.purge(name));
  }

  bindQueue(queue: string, exchange: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#link, false, false, queue, exchange, key, args);
  }

  unbindQueue(queue: string, exchange: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#link, true, false, queue, exchange, key, args);
  }

  declareExchange(name: string, type: string, o: api.ExchangeOptions = {}): Promise<void> {
    return requests.declareExchange(this.#link, name, type, o);
  }

  deleteExchange(name: string, o: { ifUnused?: boolean } = {}): Promise<void> {
    return call(() => this.#link.raw.deleteExchange(name, o.ifUnused ?? false));
  }

  bindExchange(destination: string, source: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#link, false, true, destination, source, key, args);
  }

  unbindExchange(destination: string, source: string, key = "", args?: api.FieldTable): Promise<void> {
    return requests.bind(this.#link, true, true, destination, source, key, args);
  }

  async publish(exchange: string, key: string, body: Uint8Array | string, o: api.PublishOptions = {}): Promise<void> {
    return this.#link.publish(encodeAddress(exchange, key, o), raw(body), true);
  }

  async send(exchange: string, key: string, body: Uint8Array | string, o: api.PublishOptions = {}): Promise<void> {
    return this.#link.publish(encodeAddress(exchange, key, o), raw(body), false);
  }

  trySend(exchange: string, key: string, body: Uint8Array | string, o: api.PublishOptions = {}): boolean {
    return this.#link.tryPublish(encodeAddress(exchange, key, o), raw(body));
  }

  async consume(queue: string, o: api.ConsumeOptions = {}): Promise<Consumer<Uint8Array>> {
    const link = this.#link;
    const consumer = new Consumer({
      start: async () => ({ raw: await requests.consume(link, queue, o), link }),
      ownsLink: false,
      codec: asIs,
      options: o,
    });
    await consumer.ready;
    return consumer;
  }

  get(
    queue: string, o: { noAck?: boolean } = {},
  ): Promise<(Message<Uint8Array> & { messageCount: number }) | undefined> {
    return requests.get(this.#link, queue, o.noAck ?? false, asIs);
  }

  prefetch(count: number, o: { shared?: boolean } = {}): Promise<void> {
    return call(() => this.#link.raw.prefetch(count, o.shared ?? false));
  }

  onReturn(f: (returned: api.ReturnedMessage) => void): void {
    requests.onReturn(this.#link, f);
  }

  recover(): Promise<void> {
    return call(() => this.#link.raw.recover());
  }

  txSelect(): Promise<void> {
    return call(() => this.#link.raw.tx(0));
  }

  txCommit(): Promise<void> {
    return call(() => this.#link.raw.tx(1));
  }

  txRollback(): Promise<void> {
    return call(() => this.#link.raw.tx(2));
  }

  flow(active: boolean): Promise<boolean> {
    return call(() => this.#link.raw.flow(active));
  }

  async close(): Promise<void> {
    if (!this.isOpen) return;
    try {
      await this.#link.raw.close();
    } catch (thrown) {
      throw understand(thrown);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function raw(body: Uint8Array | string): Uint8Array {
  return typeof body === "string" ? utf8(body) : body;
}
