// The ledger of what was declared and bound, replayed on each new connection.

import type * as api from "../types/index.js";
import { requests } from "./channel.js";
import type { Connection } from "./connection.js";
import { understand } from "./errors.js";
import type { Queue } from "./handles.js";
import type { Link } from "./link.js";

/** Something that can be made again. `name` may change when the broker makes it. */
interface Entry {
  make(link: Link): Promise<unknown>;
}

interface Binding extends Entry {
  destination: { name: string };
  source: string;
}

export class Topology {
  readonly #kept: boolean;
  readonly #exchanges = new Map<string, Entry>();
  readonly #queues = new Map<Queue<never>, Entry>();
  readonly #bindings = new Map<string, Binding>();

  constructor(kept: boolean) {
    this.#kept = kept;
  }

  addExchange(name: string, type: string, o: api.ExchangeOptions): void {
    if (!this.#kept || o.passive || name.startsWith("amq.")) return;
    this.#exchanges.set(name, { make: (link) => requests.declareExchange(link, name, type, o) });
  }

  addQueue(queue: Queue<never> | Queue<unknown>, unnamed: boolean, o: api.QueueOptions): void {
    if (!this.#kept || o.passive) return;
    const make = async (link: Link): Promise<void> => {
      queue.renamed(await requests.declareQueue(link, unnamed ? "" : queue.name, o));
    };
    this.#queues.set(queue as Queue<never>, { make });
  }

  addBinding(
    ofExchange: boolean, destination: { name: string }, source: string, key: string, args?: api.FieldTable,
  ): void {
    if (!this.#kept) return;
    const make = (link: Link) => requests.bind(link, false, ofExchange, destination.name, source, key, args);
    this.#bindings.set(id(ofExchange, destination.name, source, key, args), { destination, source, make });
  }

  removeBinding(ofExchange: boolean, destination: string, source: string, key: string, args?: api.FieldTable): void {
    this.#bindings.delete(id(ofExchange, destination, source, key, args));
  }

  removeQueue(name: string): void {
    for (const queue of this.#queues.keys()) if (queue.name === name) this.#queues.delete(queue);
    this.#removeBindings((binding) => binding.destination.name === name);
  }

  removeExchange(name: string): void {
    this.#exchanges.delete(name);
    this.#removeBindings((binding) => binding.source === name || binding.destination.name === name);
  }

  #removeBindings(gone: (binding: Binding) => boolean): void {
    for (const [key, binding] of this.#bindings) if (gone(binding)) this.#bindings.delete(key);
  }

  /** Makes everything again. `failed` is told what the broker refuses; the rest is made all the same. */
  async replay(connection: Connection, failed: (error: Error) => void): Promise<void> {
    let link: Link | undefined;
    for (const entries of [this.#exchanges, this.#queues, this.#bindings]) {
      for (const entry of [...entries.values()]) {
        if (link === undefined || !link.open) link = await connection.link(true);
        try {
          await entry.make(link);
        } catch (error) {
          failed(understand(error));
          link = undefined;
        }
      }
    }
    link?.release();
  }
}

function id(ofExchange: boolean, destination: string, source: string, key: string, args?: api.FieldTable): string {
  const plain = JSON.stringify(args, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
  return JSON.stringify([ofExchange, destination, source, key, plain]);
}
