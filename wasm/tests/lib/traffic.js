// Publishes and consumes numbers until stopped. Every confirmed number must then have been consumed.

const LANES = 8;

/** Starts the traffic. `lost()` stops it, and resolves with the numbers that were confirmed but never consumed. */
export async function traffic(connect, url, name) {
  const session = await connect(url, { reconnect: { minMs: 10, maxMs: 200 }, name });
  const state = { confirmed: new Set(), consumed: new Set(), refused: [], reconnected: 0, closed: undefined };
  session.on("reconnected", () => state.reconnected++);
  session.on("closed", (error) => (state.closed = String(error)));
  const queue = await session.queue(name, { durable: true });
  let arrived = () => {};
  const subscription = await queue.subscribe((m) => {
    state.consumed.add(m.body);
    m.ack();
    arrived();
  }, { prefetch: 50 });
  let last = 0;
  let stopped = false;
  const lane = async () => {
    while (!stopped) {
      const number = ++last;
      try {
        await queue.publish(number);
        state.confirmed.add(number);
      } catch (error) {
        state.refused.push(`${error.kind}: ${error.message}`);
      }
    }
  };
  const lanes = Array.from({ length: LANES }, lane);
  const missing = () => [...state.confirmed].filter((number) => !state.consumed.has(number));
  const all = async () => {
    while (missing().length > 0) await new Promise((resolve) => (arrived = resolve));
  };
  const lost = async () => {
    stopped = true;
    await Promise.all(lanes);
    const worker = new Worker(URL.createObjectURL(new Blob(["setTimeout(() => postMessage(0), 20000)"])));
    await Promise.race([all(), new Promise((resolve) => (worker.onmessage = resolve))]);
    worker.terminate();
    await subscription.cancel();
    await (await session.channel()).deleteQueue(name);
    await session.close();
    return missing();
  };
  return { state, lost };
}
