//! Users that survive a restart, imported password hashes, and limits on connections and channels.

use std::time::Duration;

use hopmq_blocking::{Connection, ErrorKind, Recovery, Result};
use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Permissions, UserError};

fn connect(broker: &Broker, user: &str, password: &str) -> Result<Connection> {
    let builder = Connection::builder().uri(&broker.uri()).credentials(user, password).recovery(Recovery::off());
    // Password checks run one after the other, and a debug build takes long for each.
    builder.connect_timeout(Duration::from_secs(120)).open()
}

/// Declares a queue. Returns the code of the error, if it fails.
fn declare_error(connection: &Connection, queue: &str) -> Option<u16> {
    connection.channel().unwrap().queue(queue).declare().err().and_then(|error| error.code())
}

#[test]
fn users_and_permissions_survive_a_restart() {
    let storage = MemoryStorage::new();
    let broker = Broker::builder().open(storage.clone()).unwrap();
    broker.add_vhost("other");
    broker.add_user("orders", "pa55").unwrap();
    let permissions = Permissions { configure: "^orders", write: "", read: "" };
    broker.set_permissions("orders", "/", permissions).unwrap();
    broker.set_topic_permissions("orders", "/", "amq.topic", "^{username}", "").unwrap();
    broker.add_user("gone", "soon").unwrap();
    broker.delete_user("gone").unwrap();
    drop(broker);

    let broker = Broker::builder().open(storage.clone()).unwrap();
    let connection = connect(&broker, "orders", "pa55").unwrap();
    assert_eq!((declare_error(&connection, "orders-1"), declare_error(&connection, "pizza")), (None, Some(403)));
    connection.close().unwrap();
    for (user, password) in [("orders", "wrong"), ("gone", "soon"), ("unknown", "any")] {
        assert_eq!(connect(&broker, user, password).unwrap_err().kind(), ErrorKind::Authentication);
    }
    let uri = broker.uri().replace("%2f", "other");
    Connection::open(&uri).unwrap().close().unwrap();
    broker.delete_user("guest").unwrap();
    drop(broker);

    let broker = Broker::builder().open(storage).unwrap();
    assert_eq!(connect(&broker, "guest", "guest").unwrap_err().kind(), ErrorKind::Authentication);
}

#[test]
fn a_user_with_a_password_hash_from_rabbitmq_can_log_in() {
    let broker = Broker::in_memory();
    // The example on RabbitMQ's page "Passwords".
    broker.add_user_with_hash("old", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR").unwrap();
    broker.set_permissions("old", "/", Permissions::ALL).unwrap();
    connect(&broker, "old", "test12").unwrap().close().unwrap();
    assert_eq!(connect(&broker, "old", "test13").unwrap_err().kind(), ErrorKind::Authentication);
    for hash in ["test12", "kI3GCqW5", "$argon2id$"] {
        assert_eq!(broker.add_user_with_hash("new", hash), Err(UserError::Hash));
    }
    assert_eq!(broker.add_user(&"n".repeat(256), "x"), Err(UserError::Name));
}

#[test]
fn slow_password_checks_do_not_delay_other_connections() {
    let broker = Broker::builder().open(MemoryStorage::new()).unwrap();
    // Four times as slow as the broker's own hash. Every login computes both.
    let hash = "$argon2id$v=19$m=16384,t=2,p=1$bm9ib2R5cyBzYWx0IGhlcmU$bm8gcGFzc3dvcmQgaXMga25vd24gdG8gZml0IHRoaXM";
    broker.add_user_with_hash("slow", hash).unwrap();
    let connection = connect(&broker, "guest", "guest").unwrap();
    std::thread::scope(|scope| {
        let guessing: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn({
                    let broker = &broker;
                    // Each user is new, so that no result is remembered, and none has to wait after others.
                    move || connect(broker, &format!("unknown-{number}"), "wrong").unwrap_err().kind()
                })
            })
            .collect();
        // More declares than checks: if each waited behind a check, all checks would be done first.
        for _ in 0..50 {
            assert_eq!(declare_error(&connection, "q"), None);
        }
        let refused = guessing.iter().filter(|thread| thread.is_finished()).count();
        assert!(refused < 10, "{refused} of 20 checks were done before the declares");
        connection.close().unwrap();
        for thread in guessing {
            assert_eq!(thread.join().unwrap(), ErrorKind::Authentication);
        }
    });
}

#[test]
fn connections_and_channels_are_limited() {
    let broker = Broker::builder().connection_max(2).channel_max(3).start();
    let first = connect(&broker, "guest", "guest").unwrap();
    assert_eq!(first.channel_max(), 3);
    let second = connect(&broker, "guest", "guest").unwrap();
    let error = connect(&broker, "guest", "guest").unwrap_err();
    assert_eq!(error.code(), Some(530));
    assert!(error.to_string().contains("node connection limit (2) is reached"), "{error}");
    second.close().unwrap();
    broker.wait_until(|inspector| inspector.connections().len() == 1);
    connect(&broker, "guest", "guest").unwrap().close().unwrap();
    first.close().unwrap();
}
