//! AMQP over WebSocket: lets web pages reach RabbitMQ.

#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod auth;
mod conversation;
mod cutter;
mod drain;
mod gateway;
mod guard;
mod http;
mod limits;
mod metrics;
mod origin;
mod proxy;
mod server;
mod session;
mod upstream;
mod websocket;

pub mod config;

pub use config::{Config, ConfigError};
pub use gateway::{Builder, Gateway};
pub use upstream::{Dial, Dialing, Io};
