// The connection under a session. It reconnects automatically and restores its topology.

import { open, type RawChannel, type RawConnection } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { decodeTable, encodeTable } from "./encoding.js";
import { AmqpError, call, toError } from "./errors.js";
import { type InnerChannel, openInnerChannel } from "./inner-channel.js";

/** Listens to the events of a connection. */
export interface ConnectionListener {
  blocked(reason: string | undefined): void;
  lost(error: AmqpError): void;
  retrying(attempt: number, delayMs: number, error: AmqpError): void;
  notRestored(error: AmqpError): void;
  recovered(): void;
}

export class Connection {
  readonly #raw: RawConnection;
  /** The channels by number. An unused channel may be garbage-collected, which closes it. */
  readonly #channels = new Map<number, WeakRef<InnerChannel>>();
  /** Resolves with the reason when the connection has ended. */
  readonly ended: Promise<AmqpError>;

  private constructor(raw: RawConnection, listener: ConnectionListener) {
    this.#raw = raw;
    this.ended = this.#watch(listener);
  }

  /** Connects. `credentials` resolves with user name, password, and milliseconds until they expire. */
  static async open(
    url: string, options: api.Options, credentials: () => Promise<[string, string, number | undefined]>,
    listener: ConnectionListener,
  ): Promise<Connection> {
    if (typeof WebSocket === "undefined") {
      const what = "this runtime has no WebSocket: use Node 22 or later, or Node 20 with --experimental-websocket";
      throw new AmqpError(what, { kind: "config" });
    }
    const { minMs = 100, maxMs = 5_000, retries } = options.reconnect || {};
    // In the order of `wasm/src/npm/connection.rs`. NaN keeps the core's default.
    const numbers = [
      Number(options.reconnect !== false), Number(options.topology !== "none"), minMs, maxMs, retries,
      options.heartbeat, options.frameMax, options.channelMax, options.highWaterMark, options.maxMessageSize,
      options.connectTimeout, options.requestTimeout, options.confirmTimeout, options.closeTimeout,
      Number(options.messageIds === true), options.waitForBroker, ...crypto.getRandomValues(new Uint32Array(4)),
    ].map((number) => number ?? Number.NaN);
    const properties = encodeTable({ platform: "JavaScript", connection_name: options.name });
    const raw = await call<RawConnection>(async () => {
      const { protocols = [], vhost, signal } = options;
      return open(url, protocols, vhost, properties, Float64Array.from(numbers), credentials, aborting(signal));
    });
    return new Connection(raw, listener);
  }

  async #watch(listener: ConnectionListener): Promise<AmqpError> {
    const onEvent = (kind: string, first: never, second: never, third: never): void => {
      switch (kind) {
        case "blocked":
          return listener.blocked(first);
        case "unblocked":
          return listener.blocked(undefined);
        case "channel-closed": {
          const channel = this.#channels.get(first)?.deref();
          if (channel !== undefined) channel.open = false;
          return;
        }
        case "lost":
          return listener.lost(toError(first) as AmqpError);
        case "retrying":
          return listener.retrying(first, second, toError(third) as AmqpError);
        case "not-restored":
          return listener.notRestored(toError(second) as AmqpError);
        case "recovered":
          return listener.recovered();
      }
    };
    const reason = toError(await this.#raw.watch(onEvent)) as AmqpError;
    for (const reference of this.#channels.values()) {
      const channel = reference.deref();
      if (channel !== undefined) channel.open = false;
    }
    return reason;
  }

  async openChannel(): Promise<InnerChannel> {
    type Settled = Parameters<RawConnection["channel"]>[0];
    const open = async (settled: Settled): Promise<RawChannel> => this.#raw.channel(settled);
    const channel = await openInnerChannel(open);
    this.#channels.set(channel.raw.id, new WeakRef(channel));
    return channel;
  }

  get bufferedAmount(): number {
    return this.#raw.bufferedAmount;
  }

  get agreed(): api.Session["agreed"] {
    const [frameMax, channelMax, heartbeat, server] = this.#raw.agreed() as [number, number, number, Uint8Array];
    return { frameMax, channelMax, heartbeat, server: decodeTable(server) };
  }

  get stats(): api.Stats {
    const counters = [...this.#raw.counters()] as never[];
    const [published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived] = counters;
    return { published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived } as never;
  }

  updateSecret(secret: string): Promise<void> {
    return call(() => this.#raw.updateSecret(secret, "renewed"));
  }

  close(): Promise<void> {
    return call(() => this.#raw.close());
  }
}

/** Resolves when the signal is aborted. */
function aborting(signal: AbortSignal | undefined): Promise<void> | undefined {
  return signal && new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
