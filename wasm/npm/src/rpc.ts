// Remote calls: requests go to a queue, replies use RabbitMQ's direct reply-to
// (https://www.rabbitmq.com/docs/direct-reply-to).

import type * as api from "../types/index.js";
import { requests } from "./channel.js";
import { automatic, bytes } from "./codecs.js";
import { Consumer } from "./consumer.js";
import { encodeAddress } from "./encoding.js";
import { AmqpError } from "./errors.js";
import { aborted, type InnerChannel } from "./inner-channel.js";
import type { Message } from "./message.js";
import type { Session } from "./session.js";

/** The longest time that `setTimeout` takes, in milliseconds. */
const TIMEOUT_MAX = 0x7fffffff;
const REPLY_TO = "amq.rabbitmq.reply-to";

interface PendingCall<R> {
  resolve: (reply: R) => void;
  reject: (error: Error) => void;
}

/** A channel that consumes replies, and its pending calls. */
interface ReplyChannel<R> {
  channel: InnerChannel;
  consumer: Consumer<Uint8Array>;
  calls: Map<string, PendingCall<R>>;
  /** Removes the listener for lost connections. */
  unsubscribe?: () => void;
}

export class Rpc<Q, R> implements api.Rpc<Q, R> {
  readonly #session: Session;
  readonly #queue: string;
  readonly #options: api.RpcOptions<Q, R>;
  #replyChannel: Promise<ReplyChannel<R>> | undefined;
  #last = 0;
  #closed = false;

  constructor(session: Session, queue: string, options: api.RpcOptions<Q, R>) {
    this.#session = session;
    this.#queue = queue;
    this.#options = options;
  }

  async call(request: Q, options: api.Properties & { signal?: AbortSignal; timeoutMs?: number } = {}): Promise<R> {
    const { signal, timeoutMs = this.#options.timeoutMs ?? 30_000, ...properties } = options;
    if (!(timeoutMs >= 0 && timeoutMs <= TIMEOUT_MAX)) {
      throw new AmqpError(`timeoutMs is ${timeoutMs}; it must be 0 to ${TIMEOUT_MAX}`, { kind: "usage" });
    }
    if (signal?.aborted) throw aborted(signal);
    const { body, ...encoded } = (this.#options.request ?? (automatic as api.Codec<Q>)).encode(request);
    const replies = await this.#open();
    if (signal?.aborted) throw aborted(signal);
    const correlationId = String(++this.#last);
    const address = encodeAddress("", this.#queue, {
      ...encoded, expiration: String(Math.ceil(timeoutMs)), ...properties, correlationId, replyTo: REPLY_TO,
      mandatory: true,
    });
    return new Promise<R>((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        replies.calls.delete(correlationId);
      };
      const call: PendingCall<R> = {
        resolve: (reply) => (done(), resolve(reply)),
        reject: (error) => (done(), reject(error)),
      };
      const abort = (): void => call.reject(aborted(signal!));
      const expire = (): void =>
        call.reject(new AmqpError(`no reply from ${this.#queue} within ${timeoutMs} ms`, { kind: "timeout" }));
      const timer = setTimeout(expire, timeoutMs);
      signal?.addEventListener("abort", abort, { once: true });
      replies.calls.set(correlationId, call);
      replies.channel.publish(address, body, true).catch((error: Error) => call.reject(error));
    });
  }

  #open(): Promise<ReplyChannel<R>> {
    if (this.#closed) throw new AmqpError("this program has closed the Rpc", { kind: "closed" });
    this.#replyChannel ??= (async () => {
      try {
        const channel = await this.#session.openChannel();
        const options = { noAck: true };
        const consumer = new Consumer({
          start: async () => ({
            raw: await requests.consume(channel, REPLY_TO, options), channel, queue: REPLY_TO,
          }),
          ownsChannel: true,
          codec: bytes,
          options,
        });
        await consumer.ready;
        const replies: ReplyChannel<R> = { channel, consumer, calls: new Map() };
        // Replies to earlier calls went to the consumer of the lost connection.
        replies.unsubscribe = this.#session.on("disconnected", (error) => this.#fail(replies, error));
        void this.#receive(replies);
        return replies;
      } catch (error) {
        this.#replyChannel = undefined;
        throw error;
      }
    })();
    return this.#replyChannel;
  }

  /** Resolves calls with their replies until the channel ends, then rejects the calls that are left. */
  async #receive(replies: ReplyChannel<R>): Promise<void> {
    let end: Error = new AmqpError("this program has closed the Rpc", { kind: "closed" });
    try {
      for await (const message of replies.consumer) this.#resolve(replies, message);
    } catch (error) {
      end = error as Error;
    }
    this.#replyChannel = undefined;
    replies.unsubscribe?.();
    this.#fail(replies, end);
  }

  #fail(replies: ReplyChannel<R>, error: Error): void {
    for (const call of [...replies.calls.values()]) call.reject(error);
  }

  #resolve(replies: ReplyChannel<R>, message: Message<Uint8Array>): void {
    const call = replies.calls.get(message.properties.correlationId ?? "");
    try {
      call?.resolve((this.#options.response ?? (automatic as api.Codec<R>)).decode(message.raw, message));
    } catch (error) {
      call?.reject(error as Error);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const replies = await this.#replyChannel?.catch(() => undefined);
    await replies?.consumer.return();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
