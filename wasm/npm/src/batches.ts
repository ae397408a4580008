// Batches: many publishes with one outcome, and deliveries taken and settled together.

import type * as api from "../types/index.js";
import type { Consumer } from "./consumer.js";
import { AmqpError } from "./errors.js";

/** Publishes that may wait for their confirms at a time. */
const WINDOW = 1000;

export class PublishManyError extends AmqpError implements api.PublishManyError {
  constructor(readonly count: number, readonly failed: { index: number; error: Error }[]) {
    const { index, error } = failed[0]!;
    const { kind, scope, code } = error instanceof AmqpError ? error : { kind: "usage" as const };
    const text = `${failed.length} of ${count} messages were not confirmed; the first is number ${index}`;
    super(`${text}: ${error.message}`, { kind, scope, code, cause: error });
  }
}

export async function publishMany<T>(
  target: { publish(body: T, options?: api.PublishOptions): Promise<void> }, bodies: Iterable<T>,
  options?: api.PublishOptions,
): Promise<void> {
  const failed: { index: number; error: Error }[] = [];
  let count = 0;
  let publishes: Promise<void>[] = [];
  const settle = async (): Promise<void> => {
    const first = count - publishes.length;
    (await Promise.allSettled(publishes)).forEach((outcome, i) => {
      if (outcome.status === "rejected") failed.push({ index: first + i, error: outcome.reason as Error });
    });
    publishes = [];
  };
  for (const body of bodies) {
    publishes.push(target.publish(body, options));
    if (++count % WINDOW === 0) await settle();
  }
  await settle();
  if (failed.length > 0) throw new PublishManyError(count, failed);
}

class Deliveries<T> extends Array<api.Message<T>> implements api.Deliveries<T> {
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  ackAll(): void {
    // Acks of consecutive deliveries are merged on their way.
    for (const message of this) message.ack();
  }

  nackAll(options?: { requeue?: boolean }): void {
    for (const message of this) message.nack(options);
  }
}

export async function* batches<T>(
  from: api.Consumer<T>, { maxCount = Infinity, maxSize = Infinity, wait = 0 }: api.BatchOptions = {},
): AsyncGenerator<Deliveries<T>, void> {
  const consumer = from as Consumer<T>;
  let pending: Promise<IteratorResult<api.Message<T>>> | undefined;
  try {
    for (;;) {
      const first = await (pending ?? consumer.next());
      pending = undefined;
      if (first.done) return;
      const batch = new Deliveries<T>();
      let size = 0;
      let timer: ReturnType<typeof setTimeout> | undefined;
      let late: Promise<undefined> | undefined;
      for (let next: api.Message<T> | undefined = first.value; next !== undefined; ) {
        batch.push(next);
        size += next.raw.length;
        if (batch.length >= maxCount || size >= maxSize) break;
        next = consumer.nextNow();
        if (next !== undefined || wait <= 0) continue;
        late ??= new Promise((resolve) => (timer = setTimeout(resolve, wait)));
        pending = consumer.next();
        // An end or an error comes after this batch.
        const more = await Promise.race([pending, late]).catch(() => undefined);
        if (more === undefined || more.done) break;
        pending = undefined;
        next = more.value;
      }
      clearTimeout(timer);
      yield batch;
    }
  } finally {
    // A message that the loop will not see must not stay unacknowledged.
    pending?.then(({ value }) => value?.nack(), () => {});
    await consumer.return();
  }
}
