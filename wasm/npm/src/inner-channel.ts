// A channel of WebAssembly, with its pending publishes and its unsettled deliveries.

import type { RawChannel } from "../pkg/hopmq.js";
import type { Address } from "./encoding.js";
import { AmqpError, toError } from "./errors.js";
import { MULTIPLE, type Settler } from "./message.js";

interface PendingPublish {
  resolve: () => void;
  reject: (error: Error) => void;
}

export class InnerChannel implements Settler {
  readonly raw: RawChannel;
  /** False once this side has closed the channel or has learned that the broker did. */
  open = true;
  readonly #pending: Map<number, PendingPublish>;
  /** Publishes that wait for room in the send buffer; later publishes must wait behind them. */
  #queued = 0;
  /** Deliveries that the program has and has not settled; NaN after a `multiple` settle. */
  #unsettled = 0;
  #released = false;

  constructor(raw: RawChannel, pending: Map<number, PendingPublish>) {
    this.raw = raw;
    this.#pending = pending;
  }

  /** Publishes. Resolves on the broker's confirm, or without `confirmed` once the message is in the send buffer. */
  publish(address: Address, body: Uint8Array, confirmed: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const { bytes, exchangeLength, keyLength, flags } = address;
      try {
        let number = -1;
        if (this.#queued === 0) {
          number = this.raw.publish(bytes, exchangeLength, keyLength, flags, body, confirmed);
        }
        if (number > 0) {
          this.#pending.set(number, { resolve, reject });
        } else if (number === 0) {
          resolve();
        } else {
          this.#publishLater(address, body, confirmed, resolve, reject);
        }
      } catch (thrown) {
        reject(toError(thrown));
      }
    });
  }

  #publishLater(
    address: Address, body: Uint8Array, confirmed: boolean, resolve: () => void, reject: (error: Error) => void,
  ): void {
    const { bytes, exchangeLength, keyLength, flags } = address;
    const number = this.raw.publishLater(bytes, exchangeLength, keyLength, flags, body, confirmed);
    this.#queued++;
    this.#pending.set(number, {
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

  /** Publishes without a confirm, if the send buffer has room. */
  tryPublish(address: Address, body: Uint8Array): boolean {
    if (this.#queued > 0) return false;
    const { bytes, exchangeLength, keyLength, flags } = address;
    try {
      return this.raw.publish(bytes, exchangeLength, keyLength, flags, body, false) >= 0;
    } catch (thrown) {
      throw toError(thrown);
    }
  }

  /** Counts a delivery that the program receives. */
  countDelivery(): void {
    this.#unsettled++;
  }

  settle(tag: number, link: number, how: number): void {
    this.#unsettled = (how & MULTIPLE) === 0 ? this.#unsettled - 1 : Number.NaN;
    try {
      this.raw.settle(tag, link, how);
    } catch (thrown) {
      throw toError(thrown);
    }
    if (this.#released) this.release();
  }

  /** Closes the channel once all deliveries that the program has are settled. Nothing else may use it any more. */
  release(): void {
    this.#released = true;
    if (this.#unsettled === 0 && this.open) {
      this.open = false;
      // A refused close leaves the channel closed too.
      this.raw.close().catch(() => {});
    }
  }
}

/** Opens a channel and settles its pending publishes with the outcomes that WebAssembly reports. */
export async function openInnerChannel(
  open: (settled: (ranges: Uint32Array, failures: unknown[] | undefined) => void) => Promise<RawChannel>,
): Promise<InnerChannel> {
  const pending = new Map<number, PendingPublish>();
  const settled = (ranges: Uint32Array, failures: unknown[] | undefined): void => {
    for (let i = 0; i < ranges.length; i += 2) {
      for (let number = ranges[i]!; number <= ranges[i + 1]!; number++) {
        const publish = pending.get(number);
        pending.delete(number);
        publish?.resolve();
      }
    }
    for (let i = 0; failures !== undefined && i < failures.length; i += 2) {
      const number = failures[i] as number;
      const publish = pending.get(number);
      pending.delete(number);
      publish?.reject(toError(failures[i + 1]));
    }
  };
  try {
    return new InnerChannel(await open(settled), pending);
  } catch (thrown) {
    throw toError(thrown);
  }
}

export function aborted(signal: AbortSignal): AmqpError {
  return new AmqpError("aborted by the signal", { kind: "aborted", scope: "caller", cause: signal.reason });
}
