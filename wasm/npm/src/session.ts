// The session: queues, exchanges and channels of one connection, and what happens to it.

import type * as api from "../types/index.js";
import { automatic } from "./codecs.js";
import { Channel, requests } from "./channel.js";
import { Connection } from "./connection.js";
import type { AmqpError } from "./errors.js";
import { Exchange, Publisher, Queue } from "./queue.js";
import { aborted, type Link } from "./inner-channel.js";
import { load } from "./load.js";
import { Rpc } from "./rpc.js";

export async function connect(url: string, o: api.Options = {}): Promise<api.Session> {
  await load();
  const session = new Session(url, o);
  await session.open();
  return session;
}

type Listener = (value: never) => void;

/** Channels for requests that are kept when nobody uses them. */
const IDLE = 4;

export class Session implements api.Session {
  readonly #url: string;
  readonly #o: api.Options;
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Publishes to queues, which can't fail for want of an exchange. */
  readonly publisher = new Publisher(this);
  state: "open" | "reconnecting" | "closed" = "open";
  blocked: string | undefined;
  /** Whether this program closes it. */
  closing = false;
  /** How many times it has come back. */
  returns = 0;
  #connection!: Connection;
  /** Why it ended. */
  #end: AmqpError | undefined;
  #idle: Link[] = [];
  #fetcher: Link | undefined;
  #attempts = 0;

  constructor(url: string, o: api.Options) {
    this.#url = url;
    this.#o = o;
  }

  /** The first attempt. */
  async open(): Promise<void> {
    const signal = this.#o.signal;
    if (signal?.aborted) throw aborted(signal);
    const opening = Connection.open(this.#url, this.#o, () => this.#credentials(), this.#watcher());
    // What the signal came too late for is closed again.
    const late = (): void => void opening.then((connection) => connection.close()).catch(() => {});
    this.#connection = await withSignal(opening, signal, late);
    void this.#connection.ended.then((reason) => this.#finish(reason));
    signal?.addEventListener("abort", () => void this.close().catch(() => {}), { once: true });
  }

  async #credentials(): Promise<[string, string, number | undefined]> {
    const auth = this.#o.auth;
    const { username, password, token, expiresIn } = typeof auth === "function" ? await auth() : (auth ?? {});
    const name = username ?? (token === undefined ? "guest" : "");
    // What is asked for once can't be renewed.
    const expires = typeof auth === "function" && expiresIn !== undefined ? expiresIn * 1000 : undefined;
    return [name, token ?? password ?? "guest", expires];
  }

  #watcher(): Parameters<typeof Connection.open>[3] {
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
        this.returns++;
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

  openLink(): Promise<Link> {
    return this.#connection.link();
  }

  /** The channel by which single messages are fetched, and settled. */
  async fetcher(): Promise<Link> {
    if (!this.#fetcher?.open) this.#fetcher = await this.openLink();
    return this.#fetcher;
  }

  /** Makes requests on a channel that nobody else uses meanwhile: a refused one closes it. */
  async operate<T>(work: (link: Link) => Promise<T>): Promise<T> {
    let link = this.#idle.pop();
    if (link === undefined || !link.open) link = await this.openLink();
    const result = await work(link);
    if (link.open && this.#idle.length < IDLE) this.#idle.push(link);
    else link.release();
    return result;
  }

  async queue<T>(name: string, o: api.QueueOptions = {}, codec?: api.Codec<T>): Promise<Queue<T>> {
    const declared = await this.operate((link) => requests.declareQueue(link, name, o));
    return new Queue<T>(this, declared, codec ?? (automatic as api.Codec<T>));
  }

  async exchange<T>(
    name: string, type: string, o: api.ExchangeOptions = {}, codec?: api.Codec<T>,
  ): Promise<Exchange<T>> {
    // The default exchange is there, and can't be declared.
    if (name !== "") await this.operate((link) => requests.declareExchange(link, name, type, o));
    return new Exchange<T>(this, name, codec ?? (automatic as api.Codec<T>));
  }

  async channel(): Promise<Channel> {
    return new Channel(await this.openLink());
  }

  rpc<Q, R>(queue: string, o: api.RpcOptions<Q, R> = {}): Rpc<Q, R> {
    return new Rpc(this, queue, o);
  }

  on<K extends keyof api.Events>(event: K, listener: (value: api.Events[K]) => void): () => void {
    const known = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, known.add(listener as Listener));
    return () => known.delete(listener as Listener);
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
    // The end is told in a later turn.
    await this.#connection.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export async function withSignal<T>(
  promise: Promise<T>, signal: AbortSignal | undefined, late: () => void = () => {},
): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      late();
      reject(aborted(signal));
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
