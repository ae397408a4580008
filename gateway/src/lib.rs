//! AMQP over WebSocket: lets web pages reach RabbitMQ.

#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod admission;
mod amqp;
mod auth;
mod context;
mod drain;
mod gateway;
mod http;
mod metrics;
mod printable;
mod session;
#[cfg(any(test, feature = "testing"))]
mod testing;
mod upstream;

pub mod config;

pub use config::{Config, ConfigError};
pub use gateway::{Builder, Gateway};
pub use upstream::{Dial, Dialing, Io};
