//! HopMQ in the browser: the client over a WebSocket.
