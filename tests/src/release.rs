//! The release of RabbitMQ whose behaviour the broker under test has. A scenario asks for it where releases differ.

use std::sync::OnceLock;
use std::thread;

use hopmq::Connection;
use hopmq_broker::Profile;

use crate::broker;
use crate::embedded::embedded;

/// A release of RabbitMQ, ordered by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// RabbitMQ 3.13.
    pub const V3_13: Self = Self { major: 3, minor: 13 };
    /// RabbitMQ 4.0.
    pub const V4_0: Self = Self { major: 4, minor: 0 };
    /// RabbitMQ 4.3.
    pub const V4_3: Self = Self { major: 4, minor: 3 };

    /// Reads the first two numbers of a version such as `4.0.5`.
    fn of(version: &str) -> Option<Self> {
        let mut numbers = version.split('.').map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

/// Returns the release of the broker under test: what RabbitMQ says, or the profile of the embedded broker.
///
/// # Panics
/// If RabbitMQ can't be reached, or tells no version.
pub fn release() -> Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    *RELEASE.get_or_init(|| match embedded() {
        Some(embedded) => of_profile(embedded.profile),
        // A thread of its own: the caller may be within an executor.
        None => thread::spawn(of_rabbitmq).join().expect("RabbitMQ tells its version"),
    })
}

fn of_profile(profile: Profile) -> Release {
    Release::of(&profile.to_string()).expect("a profile is named by its release")
}

fn of_rabbitmq() -> Release {
    futures_lite::future::block_on(async {
        let connection = Connection::open(&broker().amqp).await.expect("RabbitMQ can be reached");
        let properties = connection.server_properties();
        let version = properties.get("version");
        let version = version.and_then(|version| version.as_str()).expect("RabbitMQ tells a version");
        let release = Release::of(version).expect("the version has two numbers");
        connection.close().await.expect("the connection closes");
        release
    })
}
