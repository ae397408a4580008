#![doc = include_str!("../README.md")]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod clock;
mod engine;
mod frames;
pub mod inspect;
mod limits;
mod period;
mod random;
mod server;
pub mod store;
#[cfg(feature = "testing")]
mod testing;

pub use clock::{Alarm, Clock};
pub use engine::Profile;
pub use limits::Limits;
pub use period::Period;
#[cfg(feature = "definitions")]
pub use server::DefinitionsError;
pub use server::{Broker, Builder, LoginCounts, Permissions, Pipe, UserError};
#[cfg(feature = "testing")]
pub use testing::{Confirms, CrashStorage, Direction, Disturb, Faults, Inspect, Passed};
