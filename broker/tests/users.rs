//! Users: from where they may log in, and how changed permissions affect open connections.

use futures_lite::future::{block_on, zip};
use hopmq::{Connection, ErrorKind, IoTimer};
use hopmq_broker::{Broker, Permissions, Pipe, UserError};

/// Connects as a user over `transport`, does `work`, and closes the connection.
fn session<F, T>(transport: Pipe, user: &str, password: &str, work: impl FnOnce(Connection) -> F) -> hopmq::Result<T>
where
    F: Future<Output = hopmq::Result<T>>,
{
    block_on(async {
        let builder = Connection::builder().credentials(user, password);
        let (connection, driver) = builder.handshake(transport, IoTimer::new()).await?;
        let work = async {
            let result = work(connection.clone()).await;
            // The broker may have closed the connection already.
            let _ = connection.close().await;
            result
        };
        zip(driver, work).await.1
    })
}

async fn declare(connection: &Connection, queue: &str) -> hopmq::Result<()> {
    connection.channel().await?.queue(queue).declare().await.map(drop)
}

fn code<T>(result: hopmq::Result<T>) -> Option<u16> {
    result.err().expect("the broker refuses it").code()
}

#[test]
fn guest_can_log_in_from_this_machine_only() {
    let broker = Broker::in_memory();
    session(broker.connect(), "guest", "guest", async |connection| declare(&connection, "q").await).unwrap();
    for (address, allowed) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false)] {
        let login = session(broker.connect_from(address.parse().unwrap()), "guest", "guest", async |_| Ok(()));
        assert_eq!(login.is_ok(), allowed, "{address}");
        if let Err(error) = login {
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        }
    }
    // Without its default password, guest is a user like others.
    broker.add_user("guest", "not guest").unwrap();
    let remote = broker.connect_from("192.0.2.1".parse().unwrap());
    session(remote, "guest", "not guest", async |connection| declare(&connection, "q").await).unwrap();
    assert!(session(broker.connect(), "guest", "guest", async |_| Ok(())).is_err());
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_error() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    broker.set_permissions("alice", "/", Permissions::ALL).unwrap();
    let refused = |user, password| {
        let error = session(broker.connect(), user, password, async |_| Ok(())).expect_err("the login is refused");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(403)), "{error}");
        error.to_string()
    };
    assert_eq!(refused("alice", "Secret"), refused("unknown", "secret"));
    assert_eq!(refused("alice", ""), refused("", ""));
    session(broker.connect(), "alice", "secret", async |connection| declare(&connection, "q").await).unwrap();
}

#[test]
fn changed_permissions_apply_at_once() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    assert_eq!(code(session(broker.connect(), "alice", "secret", async |_| Ok(()))), Some(530));
    broker.set_permissions("alice", "/", Permissions { configure: "^mine", ..Permissions::ALL }).unwrap();
    session(broker.connect(), "alice", "secret", async |connection| {
        declare(&connection, "mine").await?;
        assert_eq!(code(declare(&connection, "other").await), Some(403));
        let channel = connection.channel().await?;
        channel.publish("", "mine", "before").confirm().await?;
        broker.set_permissions("alice", "/", Permissions { configure: "", write: "", read: ".*" }).unwrap();
        assert_eq!(code(channel.publish("", "mine", "after").confirm().await), Some(403));
        broker.delete_user("alice").unwrap();
        assert_eq!(code(connection.channel().await?.get("mine").await), Some(403));
        Ok(())
    })
    .unwrap();
    assert!(session(broker.connect(), "alice", "secret", async |_| Ok(())).is_err());
}

#[test]
fn a_topic_permission_may_contain_the_user_name() {
    let broker = Broker::in_memory();
    broker.add_user("a.b", "secret").unwrap();
    broker.set_permissions("a.b", "/", Permissions::ALL).unwrap();
    broker.set_topic_permissions("a.b", "/", "amq.topic", "^{username}.", "").unwrap();
    session(broker.connect(), "a.b", "secret", async |connection| {
        let channel = connection.channel().await?;
        channel.publish("amq.topic", "a.b.news", "").confirm().await?;
        assert_eq!(code(channel.publish("amq.topic", "axb.news", "").confirm().await), Some(403));
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_unknown_user_or_invalid_pattern_is_refused() {
    let broker = Broker::in_memory();
    let unknown = Err(UserError::NoSuchUser("unknown".to_owned()));
    assert_eq!(broker.delete_user("unknown"), unknown);
    assert_eq!(broker.set_permissions("unknown", "/", Permissions::ALL), unknown);
    assert_eq!(broker.set_impersonator("unknown", true), unknown);
    assert_eq!(broker.add_user("alice", ""), Err(UserError::Password));
    let wrong = Permissions { configure: "(", ..Permissions::ALL };
    let error = broker.set_permissions("guest", "/", wrong).unwrap_err();
    assert!(matches!(&error, UserError::Pattern(pattern, _) if pattern == "("), "{error}");
}

#[test]
fn debug_output_contains_no_password() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "hunter2").unwrap();
    assert!(!format!("{broker:?}").contains("hunter2"));
}
