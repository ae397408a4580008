//! Transports and the code that makes them: sockets, TLS, WebSockets, and the reactors and timers of the runtimes.
//!
//! Owns everything that talks to the operating system: it turns a URI or a byte stream into a [`Transport`]. It knows
//! neither AMQP nor the state of a connection.

#[cfg(any(feature = "net", feature = "tokio"))]
pub(crate) mod addresses;
pub(crate) mod connector;
#[cfg(any(feature = "net", feature = "tokio"))]
pub(crate) mod dial;
#[cfg(all(test, any(feature = "tls", feature = "websocket"), any(feature = "net", feature = "tokio")))]
pub(crate) mod duplex;
#[cfg(feature = "net")]
pub(crate) mod net;
#[cfg(any(feature = "net", feature = "tokio"))]
pub(crate) mod race;
#[cfg(feature = "net")]
pub(crate) mod reactor;
pub(crate) mod timer;
#[cfg(all(feature = "tls", any(feature = "net", feature = "tokio")))]
pub mod tls;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;
#[cfg(feature = "net")]
pub(crate) mod unblock;
#[cfg(all(feature = "websocket", any(feature = "net", feature = "tokio")))]
mod websocket;

use futures_io::{AsyncRead, AsyncWrite};

/// The byte stream under a connection: a socket, a TLS stream, a pipe.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin + ?Sized> Transport for T {}
