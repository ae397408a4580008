// The session: a connection that comes back, what was declared on it, and who waits for it.

import type * as api from "../types/index.js";
import { automatic } from "./body.js";
import { Channel, requests } from "./channel.js";
import { Connection } from "./connection.js";
import { AmqpError, isLost, understand } from "./errors.js";
import { Exchange, Publisher, Queue } from "./handles.js";
import { aborted, type Link } from "./link.js";
import { load } from "./load.js";
import { Rpc } from "./rpc.js";
import { Topology } from "./topology.js";

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
  readonly topology: Topology;
  /** Publishes to queues, which can't fail for want of an exchange. */
  readonly publisher = new Publisher(this);
  state: "open" | "reconnecting" | "closed" = "reconnecting";
  blocked: string | undefined;
  #connection: Connection | undefined;
  /** Settled when the connection is back, or given up. */
  #returning: { promise: Promise<Connection>; resolve: (c: Connection) => void; reject: (e: Error) => void };
  /** Why it ended. */
  #end: AmqpError | undefined;
  #idle: Link[] = [];
  #fetcher: Link | undefined;
  #renewal: ReturnType<typeof setTimeout> | undefined;
  /** Ends the wait between two attempts. */
  #hurry: (() => void) | undefined;

  constructor(url: string, o: api.Options) {
    this.#url = url;
    this.#o = o;
    this.topology = new Topology(o.topology !== "none");
    this.#returning = deferred();
  }

  /** The first attempt. */
  async open(): Promise<void> {
    const signal = this.#o.signal;
    try {
      await this.#dial();
    } catch (thrown) {
      this.#finish(understand(thrown) as AmqpError);
      throw signal?.aborted ? aborted(signal) : understand(thrown);
    }
    signal?.addEventListener("abort", () => void this.close().catch(() => {}), { once: true });
  }

  async #credentials(): Promise<api.Credentials> {
    const auth = this.#o.auth;
    return typeof auth === "function" ? auth() : (auth ?? {});
  }

  async #dial(): Promise<void> {
    const signal = this.#o.signal;
    if (signal?.aborted) throw aborted(signal);
    const dialling = (async () => {
      const credentials = await this.#credentials();
      const blocked = (reason: string | undefined): void => {
        this.blocked = reason;
        if (reason === undefined) this.emit("unblocked", undefined);
        else this.emit("blocked", reason);
      };
      const connection = await Connection.open(this.#url, this.#o, credentials, { blocked });
      return { connection, credentials };
    })();
    // What the signal came too late for is closed again.
    const late = (): void => void dialling.then(({ connection }) => connection.close()).catch(() => {});
    const { connection, credentials } = await withSignal(dialling, signal, late);
    if (this.#end !== undefined) {
      await connection.close();
      throw this.#end;
    }
    await this.topology.replay(connection, (error) => this.emit("error", error));
    this.#connection = connection;
    this.state = "open";
    this.#renewLater(credentials);
    this.#returning.resolve(connection);
    void connection.ended.then((reason) => this.#lost(connection, reason));
  }

  #renewLater(credentials: api.Credentials): void {
    if (credentials.expiresIn === undefined) return;
    const renew = async (): Promise<void> => {
      try {
        const fresh = await this.#credentials();
        await this.#connection?.updateSecret(fresh.token ?? fresh.password ?? "");
        this.#renewLater(fresh);
      } catch (error) {
        this.emit("error", understand(error));
      }
    };
    this.#renewal = setTimeout(() => void renew(), Math.min(credentials.expiresIn * 800, 0x7fffffff));
  }

  #lost(connection: Connection, reason: AmqpError): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#idle = [];
    this.blocked = undefined;
    clearTimeout(this.#renewal);
    if (this.#end !== undefined || reason.kind === "closed") return this.#finish(undefined);
    if (this.#o.reconnect === false) return this.#finish(reason);
    this.state = "reconnecting";
    this.#returning = deferred();
    this.emit("disconnected", reason);
    void this.#return(reason);
  }

  /** Tries until it is connected again, or given up. */
  async #return(reason: AmqpError): Promise<void> {
    const { minMs = 250, maxMs = 30_000, retries = Number.POSITIVE_INFINITY } = this.#o.reconnect || {};
    let error = reason;
    for (let attempt = 1; attempt <= retries; attempt++) {
      // Full jitter: a thousand pages that lost one broker do not come back at one moment.
      const delayMs = Math.random() * Math.min(maxMs, minMs * 2 ** (attempt - 1));
      this.emit("reconnecting", { attempt, delayMs, error });
      await this.#wait(delayMs);
      if (this.#end !== undefined) return;
      try {
        await this.#dial();
        return this.emit("reconnected", { attempts: attempt });
      } catch (thrown) {
        error = understand(thrown) as AmqpError;
        if (this.#end !== undefined) return;
        if (error.kind === "config" || error.kind === "usage") break;
        if (error.kind === "authentication" && typeof this.#o.auth !== "function") break;
      }
    }
    this.#finish(error);
  }

  /** Waits; not any longer when the network is back or somebody looks at the page. */
  #wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const visible = (): void => {
        if (globalThis.document?.visibilityState === "visible") done();
      };
      const done = (): void => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", done);
        globalThis.document?.removeEventListener("visibilitychange", visible);
        this.#hurry = undefined;
        resolve();
      };
      const timer = setTimeout(done, delayMs);
      globalThis.addEventListener?.("online", done);
      globalThis.document?.addEventListener("visibilitychange", visible);
      this.#hurry = done;
    });
  }

  #finish(error: AmqpError | undefined): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.#end ??= error ?? new AmqpError("the session was closed by this program", { kind: "closed" });
    clearTimeout(this.#renewal);
    this.#returning.reject(this.#end);
    this.emit("closed", error);
    this.#listeners.clear();
  }

  /** The connection, when there is one again. */
  connected(): Promise<Connection> {
    if (this.#connection !== undefined) return Promise.resolve(this.#connection);
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const time = this.#o.requestTimeout ?? 30_000;
    const late = new AmqpError(`no connection within ${time} ms`, { kind: "timeout" });
    return withDeadline(this.#returning.promise, time, late);
  }

  /** Whether to begin anew after `error`; resolves when the connection is back. */
  async revive(error: Error, link: Link): Promise<boolean> {
    if (!isLost(error) || this.state === "closed") return false;
    // The loss of the connection is told in a later turn than that of its channels.
    await link.connectionEnded;
    await this.#returning.promise;
    return true;
  }

  async openLink(forgiving: boolean): Promise<Link> {
    return (await this.connected()).link(forgiving);
  }

  /** The channel by which single messages are fetched, and settled. */
  async fetcher(): Promise<Link> {
    if (!this.#fetcher?.open) this.#fetcher = await this.openLink(true);
    return this.#fetcher;
  }

  /** Makes requests on a channel that nobody else uses meanwhile: a refused one closes it. */
  async operate<T>(work: (link: Link) => Promise<T>): Promise<T> {
    const connection = await this.connected();
    let link = this.#idle.pop();
    if (link === undefined || !link.open) link = await connection.link(true);
    const result = await work(link);
    if (link.open && this.#connection === connection && this.#idle.length < IDLE) this.#idle.push(link);
    else link.release();
    return result;
  }

  async queue<T>(name: string, o: api.QueueOptions = {}, codec?: api.Codec<T>): Promise<Queue<T>> {
    const declared = await this.operate((link) => requests.declareQueue(link, name, o));
    const queue = new Queue<T>(this, declared, codec ?? (automatic as api.Codec<T>));
    this.topology.addQueue(queue, name === "", o);
    return queue;
  }

  async exchange<T>(
    name: string, type: string, o: api.ExchangeOptions = {}, codec?: api.Codec<T>,
  ): Promise<Exchange<T>> {
    // The default exchange is there, and can't be declared.
    if (name !== "") {
      await this.operate((link) => requests.declareExchange(link, name, type, o));
      this.topology.addExchange(name, type, o);
    }
    return new Exchange<T>(this, name, codec ?? (automatic as api.Codec<T>));
  }

  async channel(): Promise<Channel> {
    return new Channel(await this.openLink(false));
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
    return this.#connection?.bufferedAmount ?? 0;
  }

  get agreed(): api.Session["agreed"] {
    return this.#open().agreed;
  }

  get stats(): api.Stats {
    return this.#open().stats;
  }

  #open(): Connection {
    if (this.#connection !== undefined) return this.#connection;
    throw this.#end ?? new AmqpError("the connection is away", { kind: "io" });
  }

  updateSecret(secret: string): Promise<void> {
    return this.connected().then((connection) => connection.updateSecret(secret));
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#end ??= new AmqpError("the session was closed by this program", { kind: "closed" });
    this.#hurry?.();
    try {
      await connection?.close();
    } finally {
      this.#finish(undefined);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function deferred(): { promise: Promise<Connection>; resolve: (c: Connection) => void; reject: (e: Error) => void } {
  let resolve!: (connection: Connection) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<Connection>((ok, failed) => {
    resolve = ok;
    reject = failed;
  });
  // Whoever waits learns of it; nobody may.
  promise.catch(() => {});
  return { promise, resolve, reject };
}

async function withDeadline<T>(promise: Promise<T>, milliseconds: number, late: Error): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late), milliseconds);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
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
