// A WebSocket relay in front of a broker's TCP port, with configurable message sizes and faults.

import { createServer } from "node:http";
import { connect } from "node:net";
import { WebSocketServer } from "ws";

/**
 * `mode` is the largest message in bytes; `text`, `garbage` or `silent` for a peer that is not a broker; or `late` for
 * a relay that refuses its first three connections.
 */
export async function relay({ host, port, mode = 65536 }) {
  const server = createServer();
  let attempts = 0;
  const verifyClient = (_, accept) => accept(mode !== "late" || ++attempts > 3, 503);
  const sockets = new WebSocketServer({ server, perMessageDeflate: false, verifyClient });
  const upstreams = new Set();
  let muted = false;
  sockets.on("connection", (socket) => {
    if (mode === "text") socket.send("hello");
    if (mode === "garbage") socket.send(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"));
    if (typeof mode !== "number" && mode !== "late") return;
    const messageMax = mode === "late" ? 65536 : mode;
    const upstream = connect(port, host);
    upstream.setNoDelay(true);
    upstreams.add(upstream);
    socket.on("message", (data) => upstream.write(data));
    socket.on("close", () => upstream.destroy());
    upstream.on("data", (data) => {
      if (muted) return;
      for (let at = 0; at < data.length; at += messageMax) socket.send(data.subarray(at, at + messageMax));
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
    /** Breaks every connection, as a failing network does. */
    drop,
    /** Stops sending to the client. */
    mute: () => (muted = true),
    close() {
      drop();
      server.close();
    },
  };
}
