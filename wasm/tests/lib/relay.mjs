// A WebSocket in front of a broker that speaks TCP only: with slices of every size, and with faults.

import { createServer } from "node:http";
import { connect } from "node:net";
import { WebSocketServer } from "ws";

/** `how`: the most bytes of one message, or `text`, `garbage` or `silent` for a peer that is no broker. */
export async function relay({ host, port, how = 65536 }) {
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  const upstreams = new Set();
  let muted = false;
  sockets.on("connection", (socket) => {
    if (how === "text") socket.send("hello");
    if (how === "garbage") socket.send(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"));
    if (typeof how !== "number") return;
    const upstream = connect(port, host);
    upstream.setNoDelay(true);
    upstreams.add(upstream);
    socket.on("message", (data) => upstream.write(data));
    socket.on("close", () => upstream.destroy());
    upstream.on("data", (data) => {
      if (muted) return;
      for (let at = 0; at < data.length; at += how) socket.send(data.subarray(at, at + how));
    });
    upstream.on("error", () => {});
    upstream.on("close", () => {
      upstreams.delete(upstream);
      socket.close();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const drop = () => {
    for (const socket of sockets.clients) socket.terminate();
    for (const upstream of upstreams) upstream.destroy();
  };
  return {
    url: `ws://127.0.0.1:${server.address().port}/ws/amqp`,
    /** Breaks every connection, as a network does. */
    drop,
    /** Lets nothing through to the client any more. */
    mute: () => (muted = true),
    close() {
      drop();
      server.close();
    },
  };
}
