// Queues of a session. They outlive its connections.

import type * as api from "../types/index.js";
import { requests } from "./channel.js";
import { automatic } from "./codecs.js";
import { Consumer, Subscription } from "./consumer.js";
import { type Address, encodeAddress } from "./encoding.js";
import { call } from "./errors.js";
import { exchangeName } from "./exchange.js";
import type { InnerChannel } from "./inner-channel.js";
import type { Message } from "./message.js";
import { Addresses } from "./publisher.js";
import type { Session } from "./session.js";

/** The broker's reply to a declaration. */
type Declared = Awaited<ReturnType<typeof requests.declareQueue>>;

export class Queue<T> implements api.Queue<T> {
  readonly #session: Session;
  readonly #codec: api.Codec<T>;
  readonly #declared: Declared;
  #addresses = new Addresses();
  #name: string;
  /** The session's number of reconnects when `#name` was read. */
  #nameReadAt: number;

  constructor(session: Session, declared: Declared, codec: api.Codec<T>) {
    this.#session = session;
    this.#declared = declared;
    this.#codec = codec;
    this.#name = declared.queue.name;
    this.#nameReadAt = session.reconnects;
  }

  get name(): string {
    if (this.#nameReadAt !== this.#session.reconnects) {
      this.#nameReadAt = this.#session.reconnects;
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

  async publish(body: T, options?: api.PublishOptions): Promise<void> {
    const encoded = this.#codec.encode(body);
    return this.#session.publisher.publish(this.#address(encoded, options), encoded.body);
  }

  tryPublish(body: T, options?: api.PublishOptions): boolean {
    const encoded = this.#codec.encode(body);
    return this.#session.publisher.tryPublish(this.#address(encoded, options), encoded.body);
  }

  #address(encoded: ReturnType<api.Codec<unknown>["encode"]>, options?: api.PublishOptions): Address {
    const name = this.name;
    return this.#addresses.get("", name, encoded, options);
  }

  consume(options: api.ConsumeOptions = {}): Consumer<T> {
    const session = this.#session;
    return new Consumer<T>({
      start: async () => {
        const channel = await session.openChannel();
        const queue = this.name;
        return { raw: await requests.consume(channel, queue, options), channel, queue };
      },
      ownsChannel: true,
      codec: this.#codec,
      options,
    });
  }

  async subscribe(handler: (message: Message<T>) => unknown, options: api.ConsumeOptions = {}): Promise<Subscription> {
    const consumer = this.consume(options);
    await consumer.ready;
    const onError = (error: Error): void => this.#session.emit("error", error);
    return new Subscription(consumer as Consumer<never>, handler as never, options.noAck ?? false, onError);
  }

  serve<R>(
    handler: (request: T, message: Message<T>) => R | Promise<R>,
    options: api.ConsumeOptions & { codec?: api.Codec<R> } = {},
  ): Promise<Subscription> {
    const codec = options.codec ?? (automatic as api.Codec<R>);
    return this.subscribe(async (message) => {
      const { replyTo, correlationId } = message.properties;
      let reply: R;
      try {
        reply = await handler(message.body, message);
      } catch (error) {
        // A requeued request would fail again.
        message.reject();
        throw error;
      }
      if (replyTo !== undefined) {
        const { body, ...properties } = codec.encode(reply);
        await this.#session.publisher.publish(encodeAddress("", replyTo, { ...properties, correlationId }), body);
      }
      // If the session was closed meanwhile, the ack can't be sent and the broker redelivers the request.
      if (this.#session.state !== "closed" && !this.#session.closing) message.ack();
    }, options);
  }

  get(options: { noAck?: boolean } = {}): Promise<(Message<T> & { messageCount: number }) | undefined> {
    const { noAck = false } = options;
    return this.#session.getChannel().then((channel) => requests.get(channel, this.name, noAck, this.#codec));
  }

  async bind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = exchangeName(exchange);
    await this.#session.withChannel((channel) => requests.bind(channel, false, false, this.name, source, key, args));
  }

  async unbind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = exchangeName(exchange);
    await this.#session.withChannel((channel) => requests.bind(channel, true, false, this.name, source, key, args));
  }

  purge(): Promise<number> {
    return this.#session.withChannel((channel) => call<number>(() => channel.raw.purge(this.name)));
  }

  async delete(options: { ifUnused?: boolean; ifEmpty?: boolean } = {}): Promise<number> {
    const { ifUnused = false, ifEmpty = false } = options;
    const work = (channel: InnerChannel) => call<number>(() => channel.raw.deleteQueue(this.name, ifUnused, ifEmpty));
    return this.#session.withChannel(work);
  }
}
