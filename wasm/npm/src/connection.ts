// The connection under a session: it comes back by itself, with all that was declared.

import { open, type RawChannel, type RawConnection } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { decodeTable, encodeTable } from "./encoding.js";
import { AmqpError, call, understand } from "./errors.js";
import { type Link, openLink } from "./inner-channel.js";

/** What a connection tells of while it lasts. */
export interface Watcher {
  blocked(reason: string | undefined): void;
  lost(error: AmqpError): void;
  retrying(attempt: number, delayMs: number, error: AmqpError): void;
  notRestored(error: AmqpError): void;
  recovered(): void;
}

export class Connection {
  readonly #raw: RawConnection;
  /** Its channels, by number; what nobody uses may be collected, which closes it. */
  readonly #links = new Map<number, WeakRef<Link>>();
  /** Resolves with the reason of its end. */
  readonly ended: Promise<AmqpError>;

  private constructor(raw: RawConnection, watcher: Watcher) {
    this.#raw = raw;
    this.ended = this.#watch(watcher);
  }

  /** Connects. `credentials` promises name, password, and the milliseconds until they expire. */
  static async open(
    url: string, o: api.Options, credentials: () => Promise<[string, string, number | undefined]>, watcher: Watcher,
  ): Promise<Connection> {
    if (typeof WebSocket === "undefined") {
      const what = "there is no WebSocket: Node has one from version 22 on, and 20 with --experimental-websocket";
      throw new AmqpError(what, { kind: "config" });
    }
    const { minMs = 100, maxMs = 5_000, retries } = o.reconnect || {};
    // In the order of `wasm/src/npm/connection.rs`; what is not there keeps the core's default.
    const numbers = [
      Number(o.reconnect !== false), Number(o.topology !== "none"), minMs, maxMs, retries, o.heartbeat, o.frameMax,
      o.channelMax, o.highWaterMark, o.maxMessageSize, o.connectTimeout, o.requestTimeout, o.confirmTimeout,
      o.closeTimeout, Number(o.messageIds === true), ...crypto.getRandomValues(new Uint32Array(4)),
    ].map((number) => number ?? Number.NaN);
    const properties = encodeTable({ platform: "JavaScript", connection_name: o.name });
    const raw = await call<RawConnection>(async () => {
      return open(url, o.protocols ?? [], o.vhost, properties, Float64Array.from(numbers), credentials);
    });
    return new Connection(raw, watcher);
  }

  async #watch(watcher: Watcher): Promise<AmqpError> {
    const told = (kind: string, first: never, second: never, third: never): void => {
      switch (kind) {
        case "blocked":
          return watcher.blocked(first);
        case "unblocked":
          return watcher.blocked(undefined);
        case "channel-closed": {
          const link = this.#links.get(first)?.deref();
          if (link !== undefined) link.open = false;
          return;
        }
        case "lost":
          return watcher.lost(understand(first) as AmqpError);
        case "retrying":
          return watcher.retrying(first, second, understand(third) as AmqpError);
        case "not-restored":
          return watcher.notRestored(understand(second) as AmqpError);
        case "recovered":
          return watcher.recovered();
      }
    };
    const reason = understand(await this.#raw.watch(told)) as AmqpError;
    for (const link of this.#links.values()) {
      const open = link.deref();
      if (open !== undefined) open.open = false;
    }
    return reason;
  }

  /** Opens a channel. */
  async link(): Promise<Link> {
    type Settled = Parameters<RawConnection["channel"]>[0];
    const open = async (settled: Settled): Promise<RawChannel> => this.#raw.channel(settled);
    const link = await openLink(open);
    this.#links.set(link.raw.id, new WeakRef(link));
    return link;
  }

  get bufferedAmount(): number {
    return this.#raw.bufferedAmount;
  }

  get agreed(): api.Session["agreed"] {
    const [frameMax, channelMax, heartbeat, server] = this.#raw.agreed() as [number, number, number, Uint8Array];
    return { frameMax, channelMax, heartbeat, server: decodeTable(server) };
  }

  get stats(): api.Stats {
    const counters = this.#raw.counters();
    const all = [...counters] as never[];
    const [published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived] = all;
    return { published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived } as never;
  }

  updateSecret(secret: string): Promise<void> {
    return call(() => this.#raw.updateSecret(secret, "renewed"));
  }

  close(): Promise<void> {
    return call(() => this.#raw.close());
  }
}
