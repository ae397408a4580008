//! The embedded broker for the scenarios. `HOPMQ_BROKER=embedded` runs them against `hopmq-broker` in this process;
//! `HOPMQ_BROKER=durable` adds a store, so that persistent publishes wait until they are safe. `HOPMQ_PROFILE` is the
//! release of RabbitMQ that it follows.

use std::sync::{Arc, OnceLock};

use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Permissions, Profile};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Scenarios that only RabbitMQ can run, with the reason.
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

/// A broker in this process, and its addresses.
pub(crate) struct Embedded {
    pub(crate) broker: Broker,
    pub(crate) profile: Profile,
    pub(crate) amqp: String,
    pub(crate) amqps: String,
    /// The folder of the certificates, which RabbitMQ uses as well.
    pub(crate) tls: String,
}

/// Returns the embedded broker, if `HOPMQ_BROKER` asks for it. Starts it on the first call.
pub(crate) fn embedded() -> Option<&'static Embedded> {
    static BROKER: OnceLock<Option<Embedded>> = OnceLock::new();
    let start = || {
        let profile = match std::env::var("HOPMQ_PROFILE") {
            Ok(profile) => profile.parse().unwrap_or_else(|error| panic!("HOPMQ_PROFILE: {error}")),
            Err(_) => Profile::default(),
        };
        let builder = Broker::builder().profile(profile);
        let broker = match std::env::var("HOPMQ_BROKER").ok()?.as_str() {
            "embedded" => builder.start(),
            "durable" => builder.open(MemoryStorage::new()).expect("an empty store opens"),
            other => panic!("HOPMQ_BROKER is {other:?}; set it to \"embedded\" or \"durable\", or unset it"),
        };
        broker.add_vhost("hopmq-other");
        broker.add_user("hopmq-limited", "limited").expect("the password can be hashed");
        let own = "^hopmq-limited";
        let permissions = Permissions { configure: own, write: own, read: own };
        broker.set_permissions("hopmq-limited", "/", permissions).expect("the patterns are valid");
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
        Some(Embedded { broker, profile, amqp, amqps, tls })
    };
    BROKER.get_or_init(start).as_ref()
}

/// Returns the broker's certificate, signed by the root that clients trust.
fn certificate(folder: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(format!("{folder}/server.pem")).expect("the folder has server.pem");
    let chain = chain.collect::<Result<_, _>>().expect("server.pem has certificates");
    let key = PrivateKeyDer::from_pem_file(format!("{folder}/server.key")).expect("the folder has server.key");
    Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("the key fits"))
}

/// Returns why the broker under test can't run a scenario, if it can't.
pub(crate) fn why_not(scenario: &str) -> Option<&'static str> {
    embedded()?;
    let name = scenario.rsplit("::").next().unwrap_or(scenario);
    ONLY_RABBITMQ.iter().find(|(only, _)| *only == name).map(|(_, why)| *why)
}
