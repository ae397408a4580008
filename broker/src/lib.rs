#![doc = include_str!("../README.md")]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod engine;
pub mod inspect;
mod random;
mod server;
pub mod store;

pub use engine::Profile;
#[cfg(feature = "definitions")]
pub use server::DefinitionsError;
pub use server::{
    Broker, Builder, Clock, Confirms, Direction, Disturb, Faults, Inspect, Passed, Period, Permissions, Pipe, UserError,
};
