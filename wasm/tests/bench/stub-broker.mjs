// A minimal broker, so that the benchmark measures the client: it accepts every request, floods each consumer, and
// confirms each publish. Prints its port.
//
// The name of a queue is its content: `SIZE:COUNT`, or `SIZE:COUNT:headers` for messages with headers.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const MESSAGE_MAX = 64 << 10;
/** Largest number of WebSocket messages that wait to be written. */
const PENDING_MAX = 32;

const u8 = (value) => Buffer.from([value]);
const u16 = (value) => Buffer.from([value >> 8, value & 255]);
const u32 = (value) => Buffer.from([value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255]);
const short = (text) => Buffer.concat([u8(Buffer.byteLength(text)), Buffer.from(text)]);
const long = (bytes) => Buffer.concat([u32(bytes.length), Buffer.from(bytes)]);
const frame = (type, channel, ...parts) => {
  const payload = Buffer.concat(parts);
  return Buffer.concat([u8(type), u16(channel), u32(payload.length), payload, u8(206)]);
};
const method = (channel, klass, id, ...parts) => frame(1, channel, u16(klass), u16(id), ...parts);

/** Content type, headers, delivery mode and message id. */
const FLAGS = 0x8000 | 0x2000 | 0x1000 | 0x0080;
const HEADERS = Buffer.concat([
  short("content-type"), Buffer.from("S"), long("text/plain"), short("attempt"), Buffer.from("I"), u32(3),
  short("trace"), Buffer.from("S"), long("00-4bf92f3577b34da6a3ce929d0e0e4736"), short("ok"), Buffer.from("t\x01"),
]);

/** Returns one delivery, and the offset of its tag. */
function delivery(channel, tag, size, headers) {
  const head = [u16(60), u16(60), short(tag)];
  const at = 7 + Buffer.concat(head).length;
  const deliver = frame(1, channel, ...head, Buffer.alloc(8), u8(0), short("events"), short("some.routing.key"));
  const properties = headers
    ? [u16(FLAGS), short("application/json"), long(HEADERS), u8(2), short("message-1234567")]
    : [u16(0)];
  const header = frame(2, channel, u16(60), u16(0), u32(0), u32(size), ...properties);
  return { bytes: Buffer.concat([deliver, header, frame(3, channel, Buffer.alloc(size, 120))]), at };
}

/** Sends `count` deliveries in whole frames, as many as fit into each WebSocket message. */
async function flood(socket, channel, tag, queue) {
  const [size, count, headers] = queue.split(":");
  const { bytes, at } = delivery(channel, tag, Number(size), headers === "headers");
  const each = Math.max(1, Math.floor(MESSAGE_MAX / bytes.length));
  let sent = 0;
  let pending = 0;
  let written = () => {};
  while (sent < Number(count) && socket.readyState === 1) {
    const now = Math.min(each, Number(count) - sent);
    const batch = Buffer.alloc(now * bytes.length);
    for (let i = 0; i < now; i++) {
      bytes.copy(batch, i * bytes.length);
      batch.writeBigUInt64BE(BigInt(++sent), i * bytes.length + at);
    }
    pending++;
    socket.send(batch, () => {
      pending--;
      written();
    });
    // Bounded, so that the flood waits for the socket instead of filling memory.
    while (pending >= PENDING_MAX) await new Promise((resolve) => (written = resolve));
  }
}

class Session {
  #socket;
  #rest = Buffer.alloc(0);
  #published = new Map();

  constructor(socket) {
    this.#socket = socket;
    socket.on("message", (data) => this.#receive(data));
  }

  #receive(data) {
    let bytes = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    if (bytes.length >= 8 && bytes[0] === 65) {
      const table = u32(0);
      this.#socket.send(method(0, 10, 10, u8(0), u8(9), table, long("PLAIN"), long("en_US")));
      bytes = bytes.subarray(8);
    }
    let at = 0;
    const confirmed = new Map();
    while (at + 7 <= bytes.length) {
      const size = bytes.readUInt32BE(at + 3);
      if (at + 8 + size > bytes.length) break;
      if (bytes[at] === 1) this.#method(bytes.readUInt16BE(at + 1), bytes.subarray(at + 7, at + 7 + size), confirmed);
      at += size + 8;
    }
    this.#rest = bytes.subarray(at);
    for (const [channel, tag] of confirmed) {
      const number = Buffer.alloc(8);
      number.writeBigUInt64BE(BigInt(tag));
      this.#socket.send(method(channel, 60, 80, number, u8(1)));
    }
  }

  #method(channel, bytes, confirmed) {
    const reply = (klass, id, ...parts) => this.#socket.send(method(channel, klass, id, ...parts));
    switch (bytes.readUInt32BE(0)) {
      case (60 << 16) + 40: {
        const tag = (this.#published.get(channel) ?? 0) + 1;
        this.#published.set(channel, tag);
        confirmed.set(channel, tag);
        break;
      }
      case (10 << 16) + 11:
        return reply(10, 30, u16(2047), u32(131072), u16(0));
      case (10 << 16) + 40:
        return reply(10, 41, short(""));
      case (10 << 16) + 50:
        return reply(10, 51);
      case (20 << 16) + 10:
        return reply(20, 11, long(""));
      case (20 << 16) + 40:
        return reply(20, 41);
      case (85 << 16) + 10:
        return reply(85, 11);
      case (60 << 16) + 10:
        return reply(60, 11);
      case (60 << 16) + 20: {
        const queue = bytes.toString("utf8", 7, 7 + bytes[6]);
        const at = 7 + bytes[6];
        const tag = bytes.toString("utf8", at + 1, at + 1 + bytes[at]) || "consumer";
        reply(60, 21, short(tag));
        void flood(this.#socket, channel, tag, queue);
        break;
      }
      case (50 << 16) + 10: {
        const queue = bytes.subarray(6, 7 + bytes[6]);
        return reply(50, 11, queue, u32(0), u32(0));
      }
    }
  }
}

const server = createServer();
const handleProtocols = (offered) => [...offered][0];
const sockets = new WebSocketServer({ server, perMessageDeflate: false, handleProtocols });
sockets.on("connection", (socket) => new Session(socket));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
