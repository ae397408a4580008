//! The harness of the scenarios, for every client API: the broker, unique names, a deadline, and cleaning up.

mod broker;
pub mod cluster;
mod embedded;
mod failure;
mod harness;
pub mod ledger;
#[doc(hidden)]
pub mod macros;
pub mod peer;
pub mod proxy;
pub mod relay;
mod release;
pub mod traffic;
mod turn;

pub use broker::{Alarm, Broker, broker};
pub use failure::{Failure, Outcome};
pub use harness::{Harness, run, run_for};
pub use release::{Release, release};
