//! HopMQ in the browser: the client over a WebSocket.
//!
//! For Rust programs that run on `wasm32-unknown-unknown`, in a page, a worker or Node: everything is `hopmq`'s own
//! API, and this crate brings what a browser has in place of sockets and timers. A broker is reached through a gateway,
//! for browsers speak no TCP: HopMQ's own, LavinMQ, or websocket-tcp-relay.
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
//! JavaScript and TypeScript have the npm package `hopmq`, which is made of the same code.

mod socket;
mod timer;

#[cfg(feature = "npm")]
mod npm;

use hopmq::{Builder, Connection, Driver, Result};

pub use socket::WebSocket;
pub use timer::BrowserTimer;

/// Connects, and drives the connection by `spawn_local`.
///
/// # Errors
/// Those of [`WebSocket::connect`] and [`Builder::handshake`].
pub async fn open(url: &str, settings: &Builder) -> Result<Connection> {
    let (connection, driver) = connect(url, &[], settings).await?;
    wasm_bindgen_futures::spawn_local(driver);
    Ok(connection)
}

/// Connects, offering subprotocols, and returns the connection with its driver, which you spawn or poll.
///
/// # Errors
/// Those of [`WebSocket::connect`] and [`Builder::handshake`].
pub async fn connect(
    url: &str,
    protocols: &[String],
    settings: &Builder,
) -> Result<(Connection, Driver<WebSocket, BrowserTimer>)> {
    let socket = WebSocket::connect(url, protocols).await?;
    settings.handshake(socket, BrowserTimer::new()).await
}
