// Consumers, which are async iterables over delivery batches, and subscriptions, which call a handler.

import type { RawConsumer } from "../pkg/hopmq.js";
import type * as api from "../types/index.js";
import { call, toError } from "./errors.js";
import type { InnerChannel } from "./inner-channel.js";
import { DeliveryBatch, type Message, NACK, type RawBatch, REQUEUE } from "./message.js";

/** A consumer that the broker has started. */
export interface Started {
  raw: RawConsumer;
  channel: InnerChannel;
  queue: string;
}

/** How to start a consumer. */
export interface ConsumerSetup<T> {
  start(): Promise<Started>;
  /** Whether the channel is the consumer's own and must be closed with it. */
  ownsChannel: boolean;
  codec: api.Codec<T>;
  options: api.ConsumeOptions;
}

export class Consumer<T> implements api.Consumer<T> {
  readonly ready: Promise<void>;
  readonly #setup: ConsumerSetup<T>;
  #started: Started | undefined;
  #batch: DeliveryBatch<T> | undefined;
  #ended = false;
  /** Pending calls of `next`; later calls wait behind them. */
  #pending = 0;
  #last: Promise<unknown> = Promise.resolve();
  readonly #abort: (() => void) | undefined;

  constructor(setup: ConsumerSetup<T>) {
    this.#setup = setup;
    const signal = setup.options.signal;
    if (signal !== undefined) {
      this.#abort = () => void this.return();
      signal.addEventListener("abort", this.#abort, { once: true });
    }
    this.ready = this.#start();
    // The iteration rejects with the same error.
    this.ready.catch(() => {});
  }

  get tag(): string {
    return this.#started?.raw.tag ?? "";
  }

  async #start(): Promise<void> {
    if (this.#setup.options.signal?.aborted) {
      this.#end();
      return;
    }
    const started = await this.#setup.start();
    if (this.#ended) {
      started.raw.discard();
      if (this.#setup.ownsChannel) started.channel.release();
      return;
    }
    this.#started = started;
  }

  next(): Promise<IteratorResult<Message<T>>> {
    const value = this.nextNow();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    this.#pending++;
    const step = this.#last.then(() => this.#step()).finally(() => this.#pending--);
    this.#last = step.catch(() => {});
    return step;
  }

  /** Returns the next message if it has been received. */
  nextNow(): Message<T> | undefined {
    if (this.#pending !== 0) return undefined;
    const message = this.#batch?.next();
    if (message !== undefined) this.#started!.channel.countDelivery();
    return message;
  }

  async #step(): Promise<IteratorResult<Message<T>>> {
    await this.ready;
    while (!this.#ended) {
      const value = this.#batch?.next();
      if (value !== undefined) {
        this.#started!.channel.countDelivery();
        return { value, done: false };
      }
      const { raw, channel, queue } = this.#started!;
      try {
        const batch = (raw.take() ?? (await raw.next())) as RawBatch | undefined;
        if (batch === undefined) break;
        const settler = this.#setup.options.noAck ? undefined : channel;
        this.#batch = new DeliveryBatch(batch, settler, this.#setup.codec, queue);
      } catch (thrown) {
        this.#end();
        throw toError(thrown);
      }
    }
    this.#end();
    return { value: undefined, done: true };
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#abort !== undefined) this.#setup.options.signal?.removeEventListener("abort", this.#abort);
    this.#started?.raw.discard();
    const channel = this.#started?.channel;
    if (channel === undefined) return;
    for (let left = this.#batch?.next(); left !== undefined; left = this.#batch?.next()) {
      if (this.#setup.options.noAck || !channel.open) continue;
      channel.countDelivery();
      channel.settle(left.deliveryTag, left.link, NACK | REQUEUE);
    }
    if (this.#setup.ownsChannel) channel.release();
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
  readonly #handler: (message: Message<never>) => unknown;
  readonly #onError: (error: Error) => void;

  /** Calls `handler` for each message, and `onError` with what it throws. */
  constructor(
    consumer: Consumer<never>, handler: (message: Message<never>) => unknown, oneByOne: boolean,
    onError: (error: Error) => void,
  ) {
    this.#consumer = consumer;
    this.#handler = handler;
    this.#onError = onError;
    this.closed = this.#run(oneByOne);
    this.closed.catch(onError);
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

  /** Returns the handler's pending work, if there is any. */
  #handle(message: Message<never>): Promise<unknown> | undefined {
    try {
      const work = this.#handler(message);
      if (work instanceof Promise) return work.catch((thrown: unknown) => this.#onError(toError(thrown)));
    } catch (thrown) {
      this.#onError(toError(thrown));
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
