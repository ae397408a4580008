// Publishing for queues and exchanges: a channel that is reopened after it ended, and cached addresses.

import type * as api from "../types/index.js";
import { requests } from "./channel.js";
import { type Address, encodeAddress } from "./encoding.js";
import type { InnerChannel } from "./inner-channel.js";
import type { Session } from "./session.js";

const PERSISTENT = 2;

/** Publishes on a channel of its own, and opens another one after that has ended. */
export class Publisher {
  readonly #session: Session;
  #channel: InnerChannel | undefined;
  #opening: Promise<InnerChannel> | undefined;

  constructor(session: Session) {
    this.#session = session;
  }

  publish(address: Address, body: Uint8Array): Promise<void> {
    if (this.#channel?.open) return this.#channel.publish(address, body, true);
    return this.#open().then((channel) => channel.publish(address, body, true));
  }

  tryPublish(address: Address, body: Uint8Array): boolean {
    if (this.#channel?.open) return this.#channel.tryPublish(address, body);
    // The next call may find the channel open.
    this.#open().catch(() => {});
    return false;
  }

  #open(): Promise<InnerChannel> {
    this.#opening ??= (async () => {
      try {
        this.#channel = await this.#session.openChannel();
        requests.onReturn(this.#channel, (returned) => this.#session.emit("returned", returned));
        return this.#channel;
      } finally {
        this.#opening = undefined;
      }
    })();
    return this.#opening;
  }
}

/** Cached addresses of messages that have only the default properties. */
export class Addresses {
  readonly #cache = new Map<string, Address>();

  get(
    exchange: string, key: string, encoded: ReturnType<api.Codec<unknown>["encode"]>, options?: api.PublishOptions,
  ): Address {
    const { contentType, contentEncoding } = encoded;
    const defaults = { contentType, contentEncoding, deliveryMode: PERSISTENT };
    if (options !== undefined) return encodeAddress(exchange, key, { ...defaults, ...options });
    const cacheKey = `${contentType}\n${contentEncoding}\n${key}`;
    let address = this.#cache.get(cacheKey);
    if (address === undefined) {
      address = encodeAddress(exchange, key, defaults);
      // Each message may have a routing key of its own.
      if (this.#cache.size >= 64) this.#cache.clear();
      this.#cache.set(cacheKey, address);
    }
    return address;
  }
}
