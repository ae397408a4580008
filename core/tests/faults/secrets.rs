//! Passwords are never shown: in no error, no debug output and no trace.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use hopmq::Connection;
use hopmq::sasl::{AmqPlain, Credentials};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::common::{Reaction, STAGES, World, seconds};

const PASSWORD: &str = "hunter2-xyzzy";
const RENEWED: &str = "hunter3-plugh";

/// Records everything that is traced.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0, "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut Fields(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns whether `text` shows a password, as text or as its bytes in decimal or hex.
fn shows_a_secret(text: &str) -> bool {
    [PASSWORD, RENEWED].iter().any(|secret| {
        let numbers: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        let hex: Vec<String> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        text.contains(secret) || text.contains(&numbers.join(", ")) || text.contains(&hex.concat())
    })
}

#[test]
fn the_check_for_secrets_recognises_one() {
    assert!(shows_a_secret(&format!("{:?}", PASSWORD.as_bytes())) && shows_a_secret(PASSWORD));
}

#[test]
fn no_trace_error_or_debug_output_shows_a_password() {
    let listener = Listener::default();
    let mut shown = String::new();
    tracing::subscriber::with_default(listener.clone(), || {
        for amqplain in [false, true] {
            let mut builder = Connection::builder().credentials("user", PASSWORD);
            if amqplain {
                builder = builder.mechanism(AmqPlain);
            }
            writeln!(shown, "{builder:?}").unwrap();
            for stage in STAGES {
                for reaction in [Reaction::Stall, Reaction::Cut, Reaction::Close(403, "no"), Reaction::Raw(vec![9; 9])]
                {
                    let mut world = World::new();
                    world.server.configure(|config| config.mechanisms = "PLAIN AMQPLAIN".to_owned());
                    world.server.reactions.insert(stage, reaction);
                    let error = world.connect_by(&builder).unwrap_err();
                    writeln!(shown, "{error} {error:?}").unwrap();
                }
            }
            let mut world = World::new();
            world.server.configure(|config| config.mechanisms = "PLAIN AMQPLAIN".to_owned());
            let (connection, driver) = world.handshake(&builder).unwrap();
            writeln!(shown, "{connection:?} {driver:?}").unwrap();
            world.start(driver);
            let channel = world.run(connection.channel()).unwrap();
            let request = connection.update_secret(RENEWED, "expired");
            writeln!(shown, "{channel:?} {request:?} {:?}", connection.stats()).unwrap();
            world.run(request).unwrap();
            world.run(connection.close()).unwrap();
        }
    });
    let traced = listener.0.lock().unwrap().clone();
    assert!(traced.contains("connection open"), "nothing was traced");
    for line in shown.lines().chain(traced.lines()) {
        assert!(!shows_a_secret(line), "{line}");
    }
}

#[test]
fn expiring_credentials_are_renewed_on_the_open_connection_and_not_traced() {
    let listener = Listener::default();
    tracing::subscriber::with_default(listener.clone(), || {
        let mut world = World::new();
        let provider = || async { Ok::<_, hopmq::Error>(Credentials::new("", RENEWED).expires_in(seconds(100))) };
        let _connection = world.connect_by(&Connection::builder().credentials_from(provider)).unwrap();
        world.advance(seconds(79));
        assert_eq!(world.server.count("0 connection.update-secret"), 0);
        world.advance(seconds(2));
        assert_eq!(world.server.count("0 connection.update-secret"), 1);
        world.advance(seconds(80));
        assert_eq!(world.server.count("0 connection.update-secret"), 2);
    });
    assert!(!shows_a_secret(&listener.0.lock().unwrap()));
}
