//! The suite's other broker: `HOPMQ_BROKER=embedded` runs every scenario against `hopmq-broker`, in this very process;
//! `HOPMQ_BROKER=durable` does with a store, so that whatever is durable waits until it is safe.

use std::sync::{Arc, OnceLock};

use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Permissions};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Scenarios that only RabbitMQ can run, and why.
const ONLY_RABBITMQ: [(&str, &str); 5] = [
    ("the_broker_shows_a_connection_by_its_name", "the management API is not part of the embedded broker"),
    (
        "waiting_calls_fail_with_320_when_the_broker_closes_the_connection",
        "it asks the management API to close a connection",
    ),
    ("blocked_publishes_fail_when_the_connection_ends", "it asks the management API to close a connection"),
    ("each_consumer_reads_a_stream_from_its_own_offset", "it refuses streams"),
    ("a_client_certificate_logs_its_owner_in", "it does not know the mechanism EXTERNAL"),
];

/// A broker within this process, and where it listens.
pub(crate) struct Embedded {
    pub(crate) broker: Broker,
    pub(crate) amqp: String,
    pub(crate) amqps: String,
    /// The folder of the certificates, which are those of RabbitMQ's as well.
    pub(crate) tls: String,
}

/// The embedded broker, if it is to be tested.
pub(crate) fn embedded() -> Option<&'static Embedded> {
    static BROKER: OnceLock<Option<Embedded>> = OnceLock::new();
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
        let amqp = format!("amqp://guest:guest@{address}/%2f");
        let tls = std::env::var("HOPMQ_TLS_DIR").unwrap_or_default();
        let amqps = match tls.as_str() {
            "" => String::new(),
            folder => {
                let address =
                    broker.listen_tls("127.0.0.1:0", certificate(folder)).expect("the system has a free port");
                format!("amqps://guest:guest@localhost:{}/%2f", address.port())
            }
        };
        Some(Embedded { broker, amqp, amqps, tls })
    };
    BROKER.get_or_init(start).as_ref()
}

/// The broker's own certificate, which the root signed that clients trust.
fn certificate(folder: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(format!("{folder}/server.pem")).expect("the folder has it");
    let chain = chain.collect::<Result<_, _>>().expect("these are certificates");
    let key = PrivateKeyDer::from_pem_file(format!("{folder}/server.key")).expect("the folder has it");
    Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("the key fits"))
}

/// Why a scenario is not for the broker under test.
pub(crate) fn why_not(scenario: &str) -> Option<&'static str> {
    embedded()?;
    let name = scenario.rsplit("::").next().unwrap_or(scenario);
    ONLY_RABBITMQ.iter().find(|(only, _)| *only == name).map(|(_, why)| *why)
}
