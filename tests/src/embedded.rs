//! The suite's other broker: `HOPMQ_BROKER=embedded` runs every scenario against `hopmq-broker`, in this very process;
//! `HOPMQ_BROKER=durable` does with a store, so that whatever is durable waits until it is safe.

use std::sync::OnceLock;

use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Permissions};

/// Scenarios that only RabbitMQ can run, and why.
const ONLY_RABBITMQ: [(&str, &str); 10] = [
    ("the_broker_shows_a_connection_by_its_name", "the management API is not part of the embedded broker"),
    (
        "all_that_waits_ends_with_320_when_the_broker_closes_the_connection",
        "it asks the management API to close a connection",
    ),
    (
        "what_waits_while_publishing_is_blocked_ends_with_the_connection",
        "it asks the management API to close a connection",
    ),
    ("a_stream_is_read_by_everybody_from_where_they_like", "it refuses streams"),
    ("a_client_certificate_lets_its_owner_in", "TLS"),
    ("tls_with_the_brokers_own_root_carries_large_messages", "TLS"),
    ("tls_settings_may_stand_in_the_uri", "TLS"),
    ("a_root_that_did_not_sign_the_brokers_certificate_is_refused", "TLS"),
    ("a_certificate_for_another_name_is_refused", "TLS"),
    ("tls_where_there_is_none_and_none_where_there_is_are_told", "TLS"),
];

/// The embedded broker and where it listens, if it is to be tested.
pub(crate) fn embedded() -> Option<&'static (Broker, String)> {
    static BROKER: OnceLock<Option<(Broker, String)>> = OnceLock::new();
    let start = || {
        let broker = match std::env::var("HOPMQ_BROKER").ok()?.as_str() {
            "embedded" => Broker::in_memory(),
            "durable" => Broker::builder().open(MemoryStorage::new()).expect("there is nothing to be damaged"),
            other => panic!("HOPMQ_BROKER is {other}, which is no broker: it can be embedded or durable"),
        };
        broker.add_vhost("hopmq-other");
        broker.add_user("hopmq-limited", "limited").expect("the password can be hashed");
        let own = "^hopmq-limited";
        let permissions = Permissions { configure: own, write: own, read: own };
        broker.set_permissions("hopmq-limited", "/", permissions).expect("these are patterns");
        let address = broker.listen("127.0.0.1:0").expect("the system has a free port");
        Some((broker, format!("amqp://guest:guest@{address}/%2f")))
    };
    BROKER.get_or_init(start).as_ref()
}

/// Why a scenario is not for the broker under test.
pub(crate) fn why_not(scenario: &str) -> Option<&'static str> {
    embedded()?;
    let name = scenario.rsplit("::").next().unwrap_or(scenario);
    ONLY_RABBITMQ.iter().find(|(only, _)| *only == name).map(|(_, why)| *why)
}
