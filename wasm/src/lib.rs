//! The HopMQ client in the browser, over a WebSocket.
//!
//! This crate is for Rust programs on `wasm32-unknown-unknown`: in a page, a worker or Node. The API is `hopmq`'s own;
//! this crate adds a transport ([`WebSocket`]) and a timer ([`BrowserTimer`]) that work in a browser. Browsers can't
//! open TCP connections, so the broker is reached through a gateway: HopMQ's own, LavinMQ, or websocket-tcp-relay.
//!
//! A connection that [`open`] or [`connect`] returns ends when its WebSocket is lost. For one that reconnects, give
//! [`Builder::connect_with`] a closure that calls [`WebSocket::connect`].
//!
//! ```no_run
//! # async fn example() -> hopmq::Result<()> {
//! let settings = hopmq::Connection::builder().credentials("guest", "guest").connection_name("dashboard");
//! let connection = hopmq_wasm::open("wss://example.com/ws/amqp", &settings).await?;
//! let channel = connection.channel().await?;
//! channel.publish("", "orders", "a pizza").confirm().await?;
//! # Ok(())
//! # }
//! ```
//!
//! JavaScript and TypeScript programs use the npm package `hopmq`, which is built from this code.

#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod timer;
mod websocket;

#[cfg(feature = "npm")]
mod npm;

use hopmq::{Builder, Connection, Driver, Result};

pub use timer::BrowserTimer;
pub use websocket::WebSocket;

/// Connects to a gateway and spawns the driver with `spawn_local`.
///
/// Dropping the future ends the attempt.
///
/// # Errors
/// The errors of [`WebSocket::connect`] and [`Builder::handshake`].
pub async fn open(url: &str, settings: &Builder) -> Result<Connection> {
    let (connection, driver) = connect(url, &[], settings).await?;
    wasm_bindgen_futures::spawn_local(driver);
    Ok(connection)
}

/// Connects to a gateway and returns the connection with its driver, which you must spawn or poll.
///
/// `protocols` are the WebSocket subprotocols to offer, best first: see [`WebSocket::connect`]. Dropping the future
/// ends the attempt.
///
/// # Errors
/// The errors of [`WebSocket::connect`] and [`Builder::handshake`].
pub async fn connect(
    url: &str,
    protocols: &[String],
    settings: &Builder,
) -> Result<(Connection, Driver<WebSocket, BrowserTimer>)> {
    let socket = WebSocket::connect(url, protocols).await?;
    settings.handshake(socket, BrowserTimer::new()).await
}
