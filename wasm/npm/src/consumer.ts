// Consumers: async iterables over batches, and subscriptions over those.

import type { RawConsumer } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { call, understand } from "./errors.js";
import type { Link } from "./inner-channel.js";
import { Batch, type Message, NACK, type RawBatch, REQUEUE } from "./message.js";

/** A consumer that the broker has begun. */
export interface Started {
  raw: RawConsumer;
  link: Link;
}

/** How a consumer begins. */
export interface Source<T> {
  start(): Promise<Started>;
  /** Whether the link is the consumer's own, to be closed with it. */
  ownsLink: boolean;
  codec: api.Codec<T>;
  options: api.ConsumeOptions;
}

export class Consumer<T> implements api.Consumer<T> {
  readonly ready: Promise<void>;
  readonly #source: Source<T>;
  #started: Started | undefined;
  #batch: Batch<T> | undefined;
  #ended = false;
  /** Calls of `next` that wait; the ones that come later wait behind them. */
  #busy = 0;
  #last: Promise<unknown> = Promise.resolve();
  readonly #abort: (() => void) | undefined;

  constructor(source: Source<T>) {
    this.#source = source;
    const signal = source.options.signal;
    if (signal !== undefined) {
      this.#abort = () => void this.return();
      signal.addEventListener("abort", this.#abort, { once: true });
    }
    this.ready = this.#start();
    // Whoever iterates learns of it too.
    this.ready.catch(() => {});
  }

  get tag(): string {
    return this.#started?.raw.tag ?? "";
  }

  async #start(): Promise<void> {
    if (this.#source.options.signal?.aborted) {
      this.#end();
      return;
    }
    const started = await this.#source.start();
    if (this.#ended) {
      started.raw.discard();
      if (this.#source.ownsLink) started.link.release();
      return;
    }
    this.#started = started;
  }

  next(): Promise<IteratorResult<Message<T>>> {
    const value = this.nextNow();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    this.#busy++;
    const step = this.#last.then(() => this.#step()).finally(() => this.#busy--);
    this.#last = step.catch(() => {});
    return step;
  }

  /** The next message, if it is here. */
  nextNow(): Message<T> | undefined {
    if (this.#busy !== 0) return undefined;
    const message = this.#batch?.next();
    if (message !== undefined) this.#started!.link.handOut();
    return message;
  }

  async #step(): Promise<IteratorResult<Message<T>>> {
    await this.ready;
    while (!this.#ended) {
      const value = this.#batch?.next();
      if (value !== undefined) {
        this.#started!.link.handOut();
        return { value, done: false };
      }
      const { raw, link } = this.#started!;
      try {
        const batch = (raw.take() ?? (await raw.next())) as RawBatch | undefined;
        if (batch === undefined) break;
        this.#batch = new Batch(batch, this.#source.options.noAck ? undefined : link, this.#source.codec);
      } catch (thrown) {
        this.#end();
        throw understand(thrown);
      }
    }
    this.#end();
    return { value: undefined, done: true };
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#abort !== undefined) this.#source.options.signal?.removeEventListener("abort", this.#abort);
    this.#started?.raw.discard();
    const link = this.#started?.link;
    if (link === undefined) return;
    for (let left = this.#batch?.next(); left !== undefined; left = this.#batch?.next()) {
      if (this.#source.options.noAck || !link.open) continue;
      link.handOut();
      link.settle(left.deliveryTag, left.link, NACK | REQUEUE);
    }
    if (this.#source.ownsLink) link.release();
  }

  async cancel(): Promise<void> {
    await this.ready;
    if (this.#started !== undefined && !this.#ended) await call(() => this.#started!.raw.cancel());
  }

  async return(): Promise<IteratorResult<Message<T>>> {
    this.#end();
    return { value: undefined, done: true };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

export class Subscription implements api.Subscription {
  readonly closed: Promise<void>;
  readonly #consumer: Consumer<never>;
  readonly #call: (message: Message<never>) => unknown;
  readonly #failed: (error: Error) => void;

  /** Calls `call` for each message. What it throws, `failed` is told. */
  constructor(
    consumer: Consumer<never>, call: (message: Message<never>) => unknown, oneByOne: boolean,
    failed: (error: Error) => void,
  ) {
    this.#consumer = consumer;
    this.#call = call;
    this.#failed = failed;
    this.closed = this.#run(oneByOne);
    this.closed.catch(failed);
  }

  async #run(oneByOne: boolean): Promise<void> {
    const consumer = this.#consumer;
    for (;;) {
      let message = consumer.nextNow();
      if (message === undefined) {
        const { value, done } = await consumer.next();
        if (done) return;
        message = value;
      }
      const work = this.#handle(message!);
      if (oneByOne && work !== undefined) await work;
    }
  }

  /** What is left to wait for, if anything is. */
  #handle(message: Message<never>): Promise<unknown> | undefined {
    try {
      const work = this.#call(message);
      if (work instanceof Promise) return work.catch((thrown: unknown) => this.#failed(understand(thrown)));
    } catch (thrown) {
      this.#failed(understand(thrown));
    }
    return undefined;
  }

  async cancel(): Promise<void> {
    await this.#consumer.return();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cancel();
  }
}
