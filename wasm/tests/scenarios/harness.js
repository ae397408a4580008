// The scenarios' harness: sessions, unique names and assertions. Runs in pages, workers and Node.

const TEXT = new TextDecoder();

export function eq(got, expected, what = "") {
  const [a, b] = [got, expected].map((value) => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v)));
  if (a !== b) throw new Error(`${what} ${a} is not ${b}`);
}

export function ok(truth, what = "the condition does not hold") {
  if (!truth) throw new Error(String(what));
}

/** Awaits a rejection of this kind and code, and returns the error. */
export async function refused(work, { kind, code } = {}) {
  let value;
  try {
    value = await (typeof work === "function" ? work() : work);
  } catch (error) {
    if (kind !== undefined) eq(error.kind, kind, error.message);
    if (code !== undefined) eq(error.code, code, error.message);
    return error;
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
}

export const body = (message) => TEXT.decode(message.raw ?? message.body);

/** Returns the next message; fails if the consumer ended. */
export async function next(consumer) {
  const { value, done } = await consumer.next();
  ok(!done, "the consumer ended");
  return value;
}

export async function bodies(consumer, count) {
  const all = [];
  for (let i = 0; i < count; i++) all.push(body(await next(consumer)));
  return all;
}

/** Acknowledges all messages in a queue, and returns their bodies. */
export async function drained(channel, queue) {
  const all = [];
  for (let m = await channel.get(queue); m !== undefined; m = await channel.get(queue)) {
    all.push(body(m));
    m.ack();
  }
  return all;
}

export class Test {
  #sessions = [];
  #names = [];
  #count = 0;

  /** `world` has `connect` and `url`, and from outside the page `relay`, `drop`, `mute`, `http` and `alarm`. */
  constructor(world, scenario) {
    this.world = world;
    this.scenario = scenario;
  }

  name(stem) {
    const name = `${this.scenario.slice(0, 60)}-${stem}-${++this.#count}-${Math.random().toString(36).slice(2, 8)}`;
    this.#names.push(name);
    return name;
  }

  async connect(o = {}) {
    const session = await this.world.connect(o.url ?? this.world.url, { reconnect: false, name: this.scenario, ...o });
    this.#sessions.push(session);
    return session;
  }

  async channel(o) {
    return (await this.connect(o)).channel();
  }

  /** Declares an exclusive queue with these messages, and returns its name. */
  async queueWith(channel, messages) {
    const { name } = await channel.declareQueue(this.name("queue"), { exclusive: true });
    await Promise.all(messages.map((message) => channel.publish("", name, message)));
    return name;
  }

  /** Waits until `count` messages are ready. The scenario's timeout bounds the wait. */
  async expectReady(channel, queue, count) {
    while ((await channel.declareQueue(queue, { passive: true })).messageCount !== count);
  }

  async finish() {
    await Promise.all(this.#sessions.map((session) => session.close().catch(() => {})));
    const cleaner = await this.world.connect(this.world.url, { reconnect: false });
    const channel = await cleaner.channel();
    for (const name of this.#names) {
      await channel.deleteQueue(name);
      await channel.deleteExchange(name);
    }
    await cleaner.close();
  }
}

/** Runs one scenario. */
export async function run(world, name, scenario) {
  const test = new Test(world, name);
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the scenario did not end within 60 s")), 60_000);
  });
  try {
    await Promise.race([scenario(test), timeout]);
  } finally {
    clearTimeout(timer);
    await test.finish();
  }
}
