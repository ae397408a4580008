// Queues and exchanges of a session. They outlive its connections.

import type * as api from "../types/index.js";
import { automatic } from "./codecs.js";
import { requests } from "./channel.js";
import { type Address, encodeAddress } from "./encoding.js";
import { Consumer, Subscription } from "./consumer.js";
import { call } from "./errors.js";
import type { Link } from "./inner-channel.js";
import type { Message } from "./message.js";
import type { Session } from "./session.js";

const PERSISTENT = 2;

/** Publishes on a channel of its own, and opens another when that is gone. */
export class Publisher {
  readonly #session: Session;
  #link: Link | undefined;
  #opening: Promise<Link> | undefined;

  constructor(session: Session) {
    this.#session = session;
  }

  publish(address: Address, body: Uint8Array): Promise<void> {
    if (this.#link?.open) return this.#link.publish(address, body, true);
    return this.#open().then((link) => link.publish(address, body, true));
  }

  tryPublish(address: Address, body: Uint8Array): boolean {
    if (this.#link?.open) return this.#link.tryPublish(address, body);
    // The next attempt may find it open.
    this.#open().catch(() => {});
    return false;
  }

  #open(): Promise<Link> {
    this.#opening ??= (async () => {
      try {
        this.#link = await this.#session.openLink();
        requests.onReturn(this.#link, (returned) => this.#session.emit("returned", returned));
        return this.#link;
      } finally {
        this.#opening = undefined;
      }
    })();
    return this.#opening;
  }
}

/** Addresses of messages without properties of their own, by content type and encoding: they are all the same. */
class Addresses {
  readonly #known = new Map<string, Address>();

  get(
    exchange: string, key: string, encoded: ReturnType<api.Codec<unknown>["encode"]>, o?: api.PublishOptions,
  ): Address {
    const { contentType, contentEncoding } = encoded;
    const defaults = { contentType, contentEncoding, deliveryMode: PERSISTENT };
    if (o !== undefined) return encodeAddress(exchange, key, { ...defaults, ...o });
    const name = `${contentType}\n${contentEncoding}\n${key}`;
    let address = this.#known.get(name);
    if (address === undefined) {
      address = encodeAddress(exchange, key, defaults);
      // Routing keys may be as many as messages.
      if (this.#known.size >= 64) this.#known.clear();
      this.#known.set(name, address);
    }
    return address;
  }
}

/** What the broker says of a queue when it is declared. */
type Declared = Awaited<ReturnType<typeof requests.declareQueue>>;

export class Queue<T> implements api.Queue<T> {
  readonly #session: Session;
  readonly #codec: api.Codec<T>;
  readonly #declared: Declared;
  #addresses = new Addresses();
  #name: string;
  /** How many times the session had come back when the name was asked for. */
  #returns: number;

  constructor(session: Session, declared: Declared, codec: api.Codec<T>) {
    this.#session = session;
    this.#declared = declared;
    this.#codec = codec;
    this.#name = declared.queue.name;
    this.#returns = session.returns;
  }

  get name(): string {
    if (this.#returns !== this.#session.returns) {
      this.#returns = this.#session.returns;
      this.#name = this.#declared.queue.name;
      this.#addresses = new Addresses();
    }
    return this.#name;
  }

  get messageCount(): number {
    return this.#declared.messageCount;
  }

  get consumerCount(): number {
    return this.#declared.consumerCount;
  }

  async publish(body: T, o?: api.PublishOptions): Promise<void> {
    const encoded = this.#codec.encode(body);
    return this.#session.publisher.publish(this.#address(encoded, o), encoded.body);
  }

  tryPublish(body: T, o?: api.PublishOptions): boolean {
    const encoded = this.#codec.encode(body);
    return this.#session.publisher.tryPublish(this.#address(encoded, o), encoded.body);
  }

  #address(encoded: ReturnType<api.Codec<unknown>["encode"]>, o?: api.PublishOptions): Address {
    const name = this.name;
    return this.#addresses.get("", name, encoded, o);
  }

  consume(o: api.ConsumeOptions = {}): Consumer<T> {
    const session = this.#session;
    return new Consumer<T>({
      start: async () => {
        const link = await session.openLink();
        return { raw: await requests.consume(link, this.name, o), link };
      },
      ownsLink: true,
      codec: this.#codec,
      options: o,
    });
  }

  async subscribe(f: (message: Message<T>) => unknown, o: api.ConsumeOptions = {}): Promise<Subscription> {
    const consumer = this.consume(o);
    await consumer.ready;
    const failed = (error: Error): void => this.#session.emit("error", error);
    return new Subscription(consumer as Consumer<never>, f as never, o.noAck ?? false, failed);
  }

  serve<R>(
    f: (request: T, message: Message<T>) => R | Promise<R>, o: api.ConsumeOptions & { codec?: api.Codec<R> } = {},
  ): Promise<Subscription> {
    const codec = o.codec ?? (automatic as api.Codec<R>);
    return this.subscribe(async (message) => {
      const { replyTo, correlationId } = message.properties;
      let answer: R;
      try {
        answer = await f(message.body, message);
      } catch (error) {
        // It would fail again.
        message.reject();
        throw error;
      }
      if (replyTo !== undefined) {
        const { body, ...properties } = codec.encode(answer);
        await this.#session.publisher.publish(encodeAddress("", replyTo, { ...properties, correlationId }), body);
      }
      // A session that is closed meanwhile has answered, and the broker will ask somebody else again.
      if (this.#session.state !== "closed" && !this.#session.closing) message.ack();
    }, o);
  }

  get(o: { noAck?: boolean } = {}): Promise<(Message<T> & { messageCount: number }) | undefined> {
    return this.#session.fetcher().then((link) => requests.get(link, this.name, o.noAck ?? false, this.#codec));
  }

  async bind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = named(exchange);
    await this.#session.operate((link) => requests.bind(link, false, false, this.name, source, key, args));
  }

  async unbind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = named(exchange);
    await this.#session.operate((link) => requests.bind(link, true, false, this.name, source, key, args));
  }

  purge(): Promise<number> {
    return this.#session.operate((link) => call<number>(() => link.raw.purge(this.name)));
  }

  async delete(o: { ifUnused?: boolean; ifEmpty?: boolean } = {}): Promise<number> {
    const { ifUnused = false, ifEmpty = false } = o;
    const make = (link: Link) => call<number>(() => link.raw.deleteQueue(this.name, ifUnused, ifEmpty));
    return this.#session.operate(make);
  }
}

export class Exchange<T> implements api.Exchange<T> {
  readonly name: string;
  readonly #session: Session;
  readonly #codec: api.Codec<T>;
  readonly #publisher: Publisher;
  readonly #addresses = new Addresses();

  constructor(session: Session, name: string, codec: api.Codec<T>) {
    this.#session = session;
    this.name = name;
    this.#codec = codec;
    this.#publisher = new Publisher(session);
  }

  async publish(routingKey: string, body: T, o?: api.PublishOptions): Promise<void> {
    const encoded = this.#codec.encode(body);
    return this.#publisher.publish(this.#addresses.get(this.name, routingKey, encoded, o), encoded.body);
  }

  tryPublish(routingKey: string, body: T, o?: api.PublishOptions): boolean {
    const encoded = this.#codec.encode(body);
    return this.#publisher.tryPublish(this.#addresses.get(this.name, routingKey, encoded, o), encoded.body);
  }

  async bind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = named(exchange);
    await this.#session.operate((link) => requests.bind(link, false, true, this.name, source, key, args));
  }

  async unbind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = named(exchange);
    await this.#session.operate((link) => requests.bind(link, true, true, this.name, source, key, args));
  }

  async delete(o: { ifUnused?: boolean } = {}): Promise<void> {
    await this.#session.operate((link) => call(() => link.raw.deleteExchange(this.name, o.ifUnused ?? false)));
  }
}

function named(exchange: string | api.Exchange<unknown>): string {
  return typeof exchange === "string" ? exchange : exchange.name;
}
