// The work of each client in the page. Both process messages in the same way.

import { connect, bytes } from "hopmq";
import { AMQPWebSocketClient } from "peer";

let sink = 0;

/** Measures the milliseconds from the first message to the last. */
function counting(count, touch) {
  let seen = 0;
  let start = 0;
  let resolve;
  const all = new Promise((done) => (resolve = done));
  const take = (message) => {
    if (seen === 0) start = performance.now();
    touch(message);
    if (++seen === count) resolve(performance.now() - start);
  };
  return { all, take };
}

const hopmq = {
  async consume(url, size, count, headers) {
    const session = await connect(url, { reconnect: false, topology: "none" });
    const name = `${size}:${count}${headers ? ":headers" : ""}`;
    const queue = await session.queue(name, {}, bytes);
    const touch = headers
      ? (m) => (sink += m.body.length + m.routingKey.length + m.properties.headers.attempt)
      : (m) => (sink += m.body.length);
    const { all, take } = counting(count, touch);
    const subscription = await queue.subscribe(take, { noAck: true });
    const time = await all;
    await subscription.cancel();
    await session.close();
    return time;
  },
  async iterate(url, size, count) {
    const session = await connect(url, { reconnect: false, topology: "none" });
    const queue = await session.queue(`${size}:${count}`, {}, bytes);
    const { all, take } = counting(count, (m) => (sink += m.body.length));
    let seen = 0;
    for await (const m of queue.consume({ noAck: true })) {
      take(m);
      if (++seen === count) break;
    }
    const time = await all;
    await session.close();
    return time;
  },
  async publish(url, size, count) {
    const session = await connect(url, { reconnect: false, topology: "none" });
    const queue = await session.queue("target", {}, bytes);
    const body = new Uint8Array(size).fill(120);
    await queue.publish(body);
    const time = await windowed(count, () => queue.publish(body));
    await session.close();
    return time;
  },
};

const peer = {
  async consume(url, size, count, headers) {
    const client = new AMQPWebSocketClient(url, "/", "guest", "guest");
    const channel = await (await client.connect()).channel();
    const name = `${size}:${count}${headers ? ":headers" : ""}`;
    const touch = headers
      ? (m) => (sink += m.body.length + m.routingKey.length + m.properties.headers.attempt)
      : (m) => (sink += m.body.length);
    const { all, take } = counting(count, touch);
    await channel.basicConsume(name, { noAck: true }, take);
    const time = await all;
    await client.close();
    return time;
  },
  async publish(url, size, count) {
    const client = new AMQPWebSocketClient(url, "/", "guest", "guest");
    const channel = await (await client.connect()).channel();
    await channel.confirmSelect();
    const body = new Uint8Array(size).fill(120);
    const properties = { deliveryMode: 2 };
    await channel.basicPublish("", "target", body, properties);
    const time = await windowed(count, () => channel.basicPublish("", "target", body, properties));
    await client.close();
    return time;
  },
};

/** Publishes with a thousand unconfirmed messages. */
async function windowed(count, publish) {
  const start = performance.now();
  let left = count;
  const lane = async () => {
    while (left > 0) {
      left--;
      await publish();
    }
  };
  await Promise.all(Array.from({ length: 1000 }, lane));
  return performance.now() - start;
}

export const clients = { hopmq, peer };
export const spent = () => sink;
