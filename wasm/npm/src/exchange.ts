// Exchanges of a session. They outlive its connections.

import type * as api from "../types/index.js";
import { requests } from "./channel.js";
import { call } from "./errors.js";
import { Addresses, Publisher } from "./publisher.js";
import type { Session } from "./session.js";

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

  async publish(routingKey: string, body: T, options?: api.PublishOptions): Promise<void> {
    const encoded = this.#codec.encode(body);
    return this.#publisher.publish(this.#addresses.get(this.name, routingKey, encoded, options), encoded.body);
  }

  tryPublish(routingKey: string, body: T, options?: api.PublishOptions): boolean {
    const encoded = this.#codec.encode(body);
    return this.#publisher.tryPublish(this.#addresses.get(this.name, routingKey, encoded, options), encoded.body);
  }

  async bind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = exchangeName(exchange);
    await this.#session.withChannel((channel) => requests.bind(channel, false, true, this.name, source, key, args));
  }

  async unbind(exchange: string | api.Exchange<unknown>, key = "", args?: api.FieldTable): Promise<void> {
    const source = exchangeName(exchange);
    await this.#session.withChannel((channel) => requests.bind(channel, true, true, this.name, source, key, args));
  }

  async delete(options: { ifUnused?: boolean } = {}): Promise<void> {
    const { ifUnused = false } = options;
    await this.#session.withChannel((channel) => call(() => channel.raw.deleteExchange(this.name, ifUnused)));
  }
}

export function exchangeName(exchange: string | api.Exchange<unknown>): string {
  return typeof exchange === "string" ? exchange : exchange.name;
}
