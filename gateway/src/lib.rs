//! AMQP over WebSocket: lets web pages reach RabbitMQ.

#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod admission;
mod amqp;
mod auth;
mod context;
mod drain;
mod gateway;
mod http;
mod log_limit;
mod metrics;
mod session;
mod upstream;

pub mod config;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use config::{Config, ConfigError};
pub use gateway::{Builder, Gateway};
pub use upstream::{Dial, Dialing, Io};
