// A WebSocket in front of a broker that speaks TCP only. `size` is what one message carries at most.

import { createServer } from "node:http";
import { connect } from "node:net";
import { WebSocketServer } from "ws";

export async function relay({ host, port, size = 65536 }) {
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  const upstreams = new Set();
  sockets.on("connection", (socket) => {
    const upstream = connect(port, host);
    upstream.setNoDelay(true);
    upstreams.add(upstream);
    socket.on("message", (data) => upstream.write(data));
    socket.on("close", () => upstream.destroy());
    upstream.on("data", (data) => {
      for (let at = 0; at < data.length; at += size) socket.send(data.subarray(at, at + size));
    });
    upstream.on("error", () => {});
    upstream.on("close", () => {
      upstreams.delete(upstream);
      socket.close();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `ws://127.0.0.1:${server.address().port}/ws/amqp`,
    /** Breaks every connection, as a network does. */
    drop() {
      for (const socket of sockets.clients) socket.terminate();
    },
    close() {
      for (const socket of sockets.clients) socket.terminate();
      for (const upstream of upstreams) upstream.destroy();
      server.close();
    },
  };
}
