// What a scenario has: sessions, names of its own, and words for what must be. Runs in a page, a worker and in Node.

const TEXT = new TextDecoder();

export function eq(got, expected, what = "") {
  const [a, b] = [got, expected].map((value) => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v)));
  if (a !== b) throw new Error(`${what} ${a} is not ${b}`);
}

export function ok(truth, what = "it does not hold") {
  if (!truth) throw new Error(String(what));
}

/** The error that had to come, of this kind or code. */
export async function refused(work, { kind, code } = {}) {
  let value;
  try {
    value = await (typeof work === "function" ? work() : work);
  } catch (error) {
    if (kind !== undefined) eq(error.kind, kind, error.message);
    if (code !== undefined) eq(error.code, code, error.message);
    return error;
  }
  throw new Error(`this should have been refused, and gave ${JSON.stringify(value)}`);
}

export const body = (message) => TEXT.decode(message.raw ?? message.body);

/** The next message of a consumer that goes on. */
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

/** The bodies of all messages in a queue, which are acked. */
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

  /** `world`: connect, url, and from outside of the page: http(method, path), ctl(…words). */
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

  /** The name of a queue of its own with these messages in it. */
  async queueWith(channel, messages) {
    const { name } = await channel.declareQueue(this.name("queue"), { exclusive: true });
    await Promise.all(messages.map((message) => channel.publish("", name, message)));
    return name;
  }

  /** Waits until so many messages are ready; the scenario's deadline ends the asking. */
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
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it did not end within 60 s")), 60_000);
  });
  try {
    await Promise.race([scenario(test), late]);
  } finally {
    clearTimeout(timer);
    await test.finish();
  }
}
