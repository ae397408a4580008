//! The test kit: inspects, waits for and disturbs a broker, and crashes it and its storage.
//!
//! The feature `testing` enables it. A build without that feature contains none of it.

mod activity;
mod crash;
mod crash_storage;
mod faults;
mod inspector;
mod steps;
mod tap;
mod taps;
mod transcript;
mod waiting;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use activity::Activity;
pub use crash_storage::CrashStorage;
pub use faults::{Confirms, Disturb, Faults};
pub use inspector::Inspect;
pub use tap::Direction;
pub(crate) use tap::Tapped;
use taps::Taps;
pub use transcript::Passed;

/// What a broker holds for the test kit.
#[derive(Debug)]
pub(crate) struct TestKit {
    pub(crate) activity: Arc<Activity>,
    /// The listener of [`Broker::uri`](crate::Broker::uri).
    uri_listener: OnceLock<SocketAddr>,
    /// `None` if the connections are not watched.
    pub(crate) taps: Option<Taps>,
}

impl TestKit {
    pub(crate) fn new(watched: bool) -> Self {
        Self { activity: Arc::default(), uri_listener: OnceLock::new(), taps: watched.then(Taps::default) }
    }
}
