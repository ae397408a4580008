// Remote calls: requests to a queue, answers by RabbitMQ's direct reply-to
// (https://www.rabbitmq.com/docs/direct-reply-to).

import type * as api from "../types/index.js";
import { automatic, bytes } from "./codecs.js";
import { requests } from "./channel.js";
import { encodeAddress } from "./encoding.js";
import { Consumer } from "./consumer.js";
import { AmqpError } from "./errors.js";
import { aborted, type Link } from "./inner-channel.js";
import type { Message } from "./message.js";
import type { Session } from "./session.js";

const REPLY_TO = "amq.rabbitmq.reply-to";

interface Call<R> {
  resolve: (answer: R) => void;
  reject: (error: Error) => void;
}

/** A channel, and who waits for answers on it. */
interface Line<R> {
  link: Link;
  consumer: Consumer<Uint8Array>;
  calls: Map<string, Call<R>>;
  /** Ends the listening for lost connections. */
  deaf?: () => void;
}

export class Rpc<Q, R> implements api.Rpc<Q, R> {
  readonly #session: Session;
  readonly #queue: string;
  readonly #o: api.RpcOptions<Q, R>;
  #line: Promise<Line<R>> | undefined;
  #last = 0;
  #closed = false;

  constructor(session: Session, queue: string, o: api.RpcOptions<Q, R>) {
    this.#session = session;
    this.#queue = queue;
    this.#o = o;
  }

  async call(request: Q, o: api.Properties & { signal?: AbortSignal; timeoutMs?: number } = {}): Promise<R> {
    const { signal, timeoutMs = this.#o.timeoutMs ?? 30_000, ...properties } = o;
    if (signal?.aborted) throw aborted(signal);
    const { body, ...encoded } = (this.#o.request ?? (automatic as api.Codec<Q>)).encode(request);
    const line = await this.#open();
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
        line.calls.delete(correlationId);
      };
      const call: Call<R> = {
        resolve: (answer) => (done(), resolve(answer)),
        reject: (error) => (done(), reject(error)),
      };
      const abort = (): void => call.reject(aborted(signal!));
      const late = (): void =>
        call.reject(new AmqpError(`${this.#queue} did not answer within ${timeoutMs} ms`, { kind: "timeout" }));
      const timer = setTimeout(late, timeoutMs);
      signal?.addEventListener("abort", abort, { once: true });
      line.calls.set(correlationId, call);
      line.link.publish(address, body, true).catch((error: Error) => call.reject(error));
    });
  }

  #open(): Promise<Line<R>> {
    if (this.#closed) throw new AmqpError("the caller was closed by this program", { kind: "closed" });
    this.#line ??= (async () => {
      try {
        const link = await this.#session.openLink();
        const options = { noAck: true };
        const consumer = new Consumer({
          start: async () => ({ raw: await requests.consume(link, REPLY_TO, options), link }),
          ownsLink: true,
          codec: bytes,
          options,
        });
        await consumer.ready;
        const line: Line<R> = { link, consumer, calls: new Map() };
        // Answers of before come to a consumer that is gone.
        line.deaf = this.#session.on("disconnected", (error) => this.#fail(line, error));
        void this.#listen(line);
        return line;
      } catch (error) {
        this.#line = undefined;
        throw error;
      }
    })();
    return this.#line;
  }

  /** Hands answers to their callers, until the channel ends; then nobody's answer can come any more. */
  async #listen(line: Line<R>): Promise<void> {
    let end: Error = new AmqpError("the caller was closed by this program", { kind: "closed" });
    try {
      for await (const message of line.consumer) this.#answer(line, message);
    } catch (error) {
      end = error as Error;
    }
    this.#line = undefined;
    line.deaf?.();
    this.#fail(line, end);
  }

  #fail(line: Line<R>, error: Error): void {
    for (const call of [...line.calls.values()]) call.reject(error);
  }

  #answer(line: Line<R>, message: Message<Uint8Array>): void {
    const call = line.calls.get(message.properties.correlationId ?? "");
    try {
      call?.resolve((this.#o.response ?? (automatic as api.Codec<R>)).decode(message.raw, message));
    } catch (error) {
      call?.reject(error as Error);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const line = await this.#line?.catch(() => undefined);
    await line?.consumer.return();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
