//! The gateway between clients and a real RabbitMQ: what passes, what is refused, and how everything ends.

mod breaking;
mod common;
mod draining;
mod foreign;
mod passing;
mod permitting;
mod refusing;
#[cfg(target_os = "linux")]
mod remembering;
