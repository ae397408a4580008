// The session: the queues, exchanges and channels of one connection, and its events.

import type * as api from "../types/index.js";
import { Channel, requests } from "./channel.js";
import { automatic } from "./codecs.js";
import { Connection, type ConnectionListener } from "./connection.js";
import type { AmqpError } from "./errors.js";
import { Exchange } from "./exchange.js";
import { aborted, type InnerChannel } from "./inner-channel.js";
import { load } from "./load.js";
import { Publisher } from "./publisher.js";
import { Queue } from "./queue.js";
import { Rpc } from "./rpc.js";

export async function connect(url: string, options: api.Options = {}): Promise<api.Session> {
  await load();
  const session = new Session(url, options);
  await session.open();
  return session;
}

type Listener = (value: never) => void;

/** Largest number of idle channels kept for later requests. */
const IDLE_CHANNELS = 4;

export class Session implements api.Session {
  readonly #url: string;
  readonly #options: api.Options;
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Publishes to queues, through the default exchange, which always exists. */
  readonly publisher = new Publisher(this);
  state: "open" | "reconnecting" | "closed" = "open";
  blocked: string | undefined;
  /** Whether this program has called `close`. */
  closing = false;
  /** How many times the session has reconnected. */
  reconnects = 0;
  #connection!: Connection;
  /** Why the session ended. */
  #end: AmqpError | undefined;
  #idle: InnerChannel[] = [];
  #getChannel: InnerChannel | undefined;
  #attempts = 0;

  constructor(url: string, options: api.Options) {
    this.#url = url;
    this.#options = options;
  }

  /** Makes the first connection. */
  async open(): Promise<void> {
    const signal = this.#options.signal;
    if (signal?.aborted) throw aborted(signal);
    const opening = Connection.open(this.#url, this.#options, () => this.#credentials(), this.#connectionListener());
    const closeWhenOpen = (): void => void opening.then((connection) => connection.close()).catch(() => {});
    this.#connection = await withSignal(opening, signal, closeWhenOpen);
    void this.#connection.ended.then((reason) => this.#finish(reason));
    signal?.addEventListener("abort", () => void this.close().catch(() => {}), { once: true });
  }

  async #credentials(): Promise<[string, string, number | undefined]> {
    const auth = this.#options.auth;
    const { username, password, token, expiresIn } = typeof auth === "function" ? await auth() : (auth ?? {});
    const name = username ?? (token === undefined ? "guest" : "");
    // Only a function can renew the credentials.
    const expires = typeof auth === "function" && expiresIn !== undefined ? expiresIn * 1000 : undefined;
    return [name, token ?? password ?? "guest", expires];
  }

  #connectionListener(): ConnectionListener {
    return {
      blocked: (reason) => {
        this.blocked = reason;
        if (reason === undefined) this.emit("unblocked", undefined);
        else this.emit("blocked", reason);
      },
      lost: (error) => {
        this.state = "reconnecting";
        this.blocked = undefined;
        this.#attempts = 0;
        this.emit("disconnected", error);
      },
      retrying: (attempt, delayMs, error) => {
        this.#attempts = attempt;
        this.emit("reconnecting", { attempt, delayMs, error });
      },
      notRestored: (error) => this.emit("error", error),
      recovered: () => {
        this.state = "open";
        this.reconnects++;
        this.emit("reconnected", { attempts: this.#attempts + 1 });
      },
    };
  }

  #finish(reason: AmqpError): void {
    this.state = "closed";
    this.#end = reason;
    this.emit("closed", reason.kind === "closed" ? undefined : reason);
    this.#listeners.clear();
  }

  openChannel(): Promise<InnerChannel> {
    return this.#connection.openChannel();
  }

  /** Returns the channel for `get`, and for settling what it fetched. */
  async getChannel(): Promise<InnerChannel> {
    if (!this.#getChannel?.open) this.#getChannel = await this.openChannel();
    return this.#getChannel;
  }

  /** Runs requests on a channel that nothing else uses meanwhile, because a refused request closes it. */
  async withChannel<T>(work: (channel: InnerChannel) => Promise<T>): Promise<T> {
    let channel = this.#idle.pop();
    if (channel === undefined || !channel.open) channel = await this.openChannel();
    const result = await work(channel);
    if (channel.open && this.#idle.length < IDLE_CHANNELS) this.#idle.push(channel);
    else channel.release();
    return result;
  }

  async queue<T>(name: string, options: api.QueueOptions = {}, codec?: api.Codec<T>): Promise<Queue<T>> {
    const declared = await this.withChannel((channel) => requests.declareQueue(channel, name, options));
    return new Queue<T>(this, declared, codec ?? (automatic as api.Codec<T>));
  }

  async exchange<T>(
    name: string, type: string, options: api.ExchangeOptions = {}, codec?: api.Codec<T>,
  ): Promise<Exchange<T>> {
    // The default exchange can't be declared, and always exists.
    if (name !== "") await this.withChannel((channel) => requests.declareExchange(channel, name, type, options));
    return new Exchange<T>(this, name, codec ?? (automatic as api.Codec<T>));
  }

  async channel(): Promise<Channel> {
    return new Channel(await this.openChannel());
  }

  rpc<Q, R>(queue: string, options: api.RpcOptions<Q, R> = {}): Rpc<Q, R> {
    return new Rpc(this, queue, options);
  }

  on<K extends keyof api.Events>(event: K, listener: (value: api.Events[K]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener as Listener));
    return () => listeners.delete(listener as Listener);
  }

  emit<K extends keyof api.Events>(event: K, value: api.Events[K]): void {
    const listeners = this.#listeners.get(event);
    if (event === "error" && !listeners?.size) console.error(value);
    for (const listener of listeners ?? []) {
      try {
        listener(value as never);
      } catch (error) {
        console.error(error);
      }
    }
  }

  get bufferedAmount(): number {
    return this.#connection.bufferedAmount;
  }

  get agreed(): api.Session["agreed"] {
    return this.#connection.agreed;
  }

  get stats(): api.Stats {
    return this.#connection.stats;
  }

  updateSecret(secret: string): Promise<void> {
    return this.#connection.updateSecret(secret);
  }

  async close(): Promise<void> {
    if (this.#end?.kind === "closed") return;
    this.closing = true;
    await this.#connection.close();
    // `closed` is emitted in a later turn of the event loop.
    await this.#connection.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export async function withSignal<T>(
  promise: Promise<T>, signal: AbortSignal | undefined, onAbort: () => void = () => {},
): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      onAbort();
      reject(aborted(signal));
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
