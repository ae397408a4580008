// One connection, from its handshake to its end. It never comes back: the session makes another.

import { open, type RawChannel, type RawConnection } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { decodeTable, encodeTable } from "./codec.js";
import { type AmqpError, call, understand } from "./errors.js";
import { type Link, openLink } from "./link.js";

/** What a connection tells of while it lasts. */
export interface Watcher {
  blocked(reason: string | undefined): void;
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

  /** Connects. */
  static async open(
    url: string, o: api.Options, credentials: api.Credentials, watcher: Watcher,
  ): Promise<Connection> {
    const settings = {
      vhost: o.vhost,
      username: credentials.username ?? (credentials.token === undefined ? "guest" : ""),
      password: credentials.token ?? credentials.password ?? "guest",
      properties: encodeTable({ platform: "JavaScript", connection_name: o.name }),
      heartbeat: o.heartbeat,
      frameMax: o.frameMax,
      channelMax: o.channelMax,
      connectTimeout: o.connectTimeout,
      requestTimeout: o.requestTimeout,
      confirmTimeout: o.confirmTimeout,
      closeTimeout: o.closeTimeout,
      highWaterMark: o.highWaterMark,
      maxMessageSize: o.maxMessageSize,
    };
    const raw = await call<RawConnection>(async () => open(url, o.protocols ?? [], settings as never));
    return new Connection(raw, watcher);
  }

  async #watch(watcher: Watcher): Promise<AmqpError> {
    const told = (kind: string, first: unknown): void => {
      if (kind === "blocked") watcher.blocked(String(first));
      if (kind === "unblocked") watcher.blocked(undefined);
      if (kind === "channel-closed") {
        const link = this.#links.get(first as number)?.deref();
        if (link !== undefined) link.open = false;
      }
    };
    const reason = understand(await this.#raw.watch(told)) as AmqpError;
    for (const link of this.#links.values()) {
      const open = link.deref();
      if (open !== undefined) open.open = false;
    }
    return reason;
  }

  /** Opens a channel. `forgiving` is for consumers that go on after a reconnect. */
  async link(forgiving: boolean): Promise<Link> {
    const open = async (settled: Parameters<RawConnection["channel"]>[0]): Promise<RawChannel> => this.#raw.channel(settled);
    const link = await openLink(open, forgiving, this.ended);
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
    const [published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived] = [...counters] as never[];
    return { published, confirmed, nacked, delivered, acked, rejected, bytesSent, bytesReceived } as never;
  }

  updateSecret(secret: string): Promise<void> {
    return call(() => this.#raw.updateSecret(secret, "renewed"));
  }

  close(): Promise<void> {
    return call(() => this.#raw.close());
  }
}
