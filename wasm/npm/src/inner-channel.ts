// A channel on its way into WebAssembly: publishes that wait for their outcome, and deliveries to be settled.

import type { RawChannel } from "../pkg/hopmq.js";
import type { Address } from "./encoding.js";
import { AmqpError, understand } from "./errors.js";
import { MULTIPLE, type Settler } from "./message.js";

interface Waiting {
  resolve: () => void;
  reject: (error: Error) => void;
}

export class Link implements Settler {
  readonly raw: RawChannel;
  /** Whether it is open, as far as this side has heard. */
  open = true;
  readonly #waiting: Map<number, Waiting>;
  /** Publishes that wait for room: the next ones get behind them. */
  #queued = 0;
  /** Deliveries that were handed out and not settled, unless several were settled at once. */
  #unsettled = 0;
  #released = false;

  constructor(raw: RawChannel, waiting: Map<number, Waiting>) {
    this.raw = raw;
    this.#waiting = waiting;
  }

  /** Publishes, and resolves when the broker has the message, or without `confirmed` when it is on its way. */
  publish(address: Address, body: Uint8Array, confirmed: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const { bytes, exchange, key, flags } = address;
      try {
        let number = -1;
        if (this.#queued === 0) number = this.raw.publish(bytes, exchange, key, flags, body, confirmed);
        if (number > 0) {
          this.#waiting.set(number, { resolve, reject });
        } else if (number === 0) {
          resolve();
        } else {
          this.#publishLater(address, body, confirmed, resolve, reject);
        }
      } catch (thrown) {
        reject(understand(thrown));
      }
    });
  }

  #publishLater(
    address: Address, body: Uint8Array, confirmed: boolean, resolve: () => void, reject: (error: Error) => void,
  ): void {
    const { bytes, exchange, key, flags } = address;
    const number = this.raw.publishLater(bytes, exchange, key, flags, body, confirmed);
    this.#queued++;
    this.#waiting.set(number, {
      resolve: () => {
        this.#queued--;
        resolve();
      },
      reject: (error) => {
        this.#queued--;
        reject(error);
      },
    });
  }

  /** Publishes without a confirm, if there is room. */
  tryPublish(address: Address, body: Uint8Array): boolean {
    if (this.#queued > 0) return false;
    try {
      return this.raw.publish(address.bytes, address.exchange, address.key, address.flags, body, false) >= 0;
    } catch (thrown) {
      throw understand(thrown);
    }
  }

  /** A delivery goes to the user. */
  handOut(): void {
    this.#unsettled++;
  }

  settle(tag: number, link: number, how: number): void {
    this.#unsettled = (how & MULTIPLE) === 0 ? this.#unsettled - 1 : Number.NaN;
    try {
      this.raw.settle(tag, link, how);
    } catch (thrown) {
      throw understand(thrown);
    }
    if (this.#released) this.release();
  }

  /** Nobody will use it but to settle what was handed out: closes it when all of that is settled. */
  release(): void {
    this.#released = true;
    if (this.#unsettled === 0 && this.open) {
      this.open = false;
      // Were it refused, it would be closed too.
      this.raw.close().catch(() => {});
    }
  }
}

/** Makes links. WebAssembly tells each what became of its publishes. */
export async function openLink(
  open: (settled: (ranges: Uint32Array, failures: unknown[] | undefined) => void) => Promise<RawChannel>,
): Promise<Link> {
  const waiting = new Map<number, Waiting>();
  const settled = (ranges: Uint32Array, failures: unknown[] | undefined): void => {
    for (let i = 0; i < ranges.length; i += 2) {
      for (let number = ranges[i]!; number <= ranges[i + 1]!; number++) {
        const publish = waiting.get(number);
        waiting.delete(number);
        publish?.resolve();
      }
    }
    for (let i = 0; failures !== undefined && i < failures.length; i += 2) {
      const number = failures[i] as number;
      const publish = waiting.get(number);
      waiting.delete(number);
      publish?.reject(understand(failures[i + 1]));
    }
  };
  try {
    return new Link(await open(settled), waiting);
  } catch (thrown) {
    throw understand(thrown);
  }
}

export function aborted(signal: AbortSignal): AmqpError {
  return new AmqpError("aborted by its signal", { kind: "aborted", scope: "caller", cause: signal.reason });
}
