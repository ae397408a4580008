//! The gateway between clients and a real RabbitMQ: what it relays, what it refuses, and how connections end.

mod admission;
mod amqp_client_js;
mod common;
mod draining;
mod faults;
#[cfg(target_os = "linux")]
mod limits;
mod logins;
#[cfg(target_os = "linux")]
mod memory;
mod policies;
#[cfg(target_os = "linux")]
mod program;
mod relaying;
