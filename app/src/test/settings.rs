use std::rc::Rc;

use hopmq_broker::{Broker, Clock, Profile};

use super::TestApp;
use super::world::{Place, World};
use crate::app::App;
use crate::mode::Mode;

/// The variable that names a real broker for tests.
const URL: &str = "HOPMQ_TEST_URL";

/// The settings of a test: created by [`TestApp::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    seed: u64,
    url: Option<String>,
    broker: hopmq_broker::Builder,
}

impl Builder {
    pub(super) fn new() -> Self {
        let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
        Self { seed: 0, url, broker: Broker::builder() }
    }

    /// Sets the release of RabbitMQ that the embedded broker follows. The default is 4.0.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.broker = self.broker.profile(profile);
        self
    }

    /// Sets the seed of all random choices: names, reconnect delays, and [`TestApp::fault`]. The default is 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes any setting of the embedded broker: its limits, its `consumer_timeout`, …
    pub fn broker(mut self, change: impl FnOnce(hopmq_broker::Builder) -> hopmq_broker::Builder) -> Self {
        self.broker = change(self.broker);
        self
    }

    /// Runs the test on the embedded broker, even if `HOPMQ_TEST_URL` is set: for tests that need faults, or an hour.
    pub fn embedded(mut self) -> Self {
        self.url = None;
        self
    }

    /// Opens the broker without an app: see [`TestApp::run`].
    pub fn open(self) -> TestApp {
        let place = match self.url {
            Some(url) => Place::Real(url),
            None => Place::Embedded(self.broker.clock(&Clock::manual()).seed(self.seed).by_hand()),
        };
        TestApp::open(Rc::new(World::new(place)), self.seed)
    }

    /// Opens the broker, and runs the app until it consumes.
    ///
    /// # Panics
    /// If the app does not start. The message has its error.
    #[track_caller]
    pub fn start<S: 'static, M: Mode<S>>(self, app: App<S, M>) -> TestApp {
        let test = self.open();
        test.run(app);
        test
    }
}
