//! Users: who gets in from where, and what changes of their permissions do to those who are connected.

use futures_lite::future::{block_on, zip};
use hopmq::{Connection, ErrorKind, IoTimer};
use hopmq_broker::{Broker, Permissions, Pipe, UserError};

/// Connects as a user, over `transport`, and does `work` while the connection lasts.
fn session<F, T>(transport: Pipe, user: &str, password: &str, work: impl FnOnce(Connection) -> F) -> hopmq::Result<T>
where
    F: Future<Output = hopmq::Result<T>>,
{
    block_on(async {
        let builder = Connection::builder().credentials(user, password);
        let (connection, driver) = builder.handshake(transport, IoTimer::new()).await?;
        let work = async {
            let result = work(connection.clone()).await;
            // What is closed already is closed.
            let _ = connection.close().await;
            result
        };
        zip(driver, work).await.1
    })
}

async fn declares(connection: &Connection, queue: &str) -> hopmq::Result<()> {
    connection.channel().await?.queue(queue).declare().await.map(drop)
}

fn code<T>(result: hopmq::Result<T>) -> Option<u16> {
    result.err().expect("it is refused").code()
}

#[test]
fn guest_comes_from_this_machine_alone() {
    let broker = Broker::in_memory();
    session(broker.connect(), "guest", "guest", async |connection| declares(&connection, "q").await).unwrap();
    for (address, lets_in) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false)] {
        let came = session(broker.connect_from(address.parse().unwrap()), "guest", "guest", async |_| Ok(()));
        assert_eq!(came.is_ok(), lets_in, "{address}");
        if let Err(error) = came {
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        }
    }
    // With a password that not everybody knows, it is a user like others.
    broker.add_user("guest", "not guest").unwrap();
    let far = broker.connect_from("192.0.2.1".parse().unwrap());
    session(far, "guest", "not guest", async |connection| declares(&connection, "q").await).unwrap();
    assert!(session(broker.connect(), "guest", "guest", async |_| Ok(())).is_err());
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    broker.set_permissions("alice", "/", Permissions::ALL).unwrap();
    let refused = |user, password| {
        let error = session(broker.connect(), user, password, async |_| Ok(())).expect_err("it is refused");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(403)), "{error}");
        error.to_string()
    };
    assert_eq!(refused("alice", "Secret"), refused("nobody", "secret"));
    assert_eq!(refused("alice", ""), refused("", ""));
    session(broker.connect(), "alice", "secret", async |connection| declares(&connection, "q").await).unwrap();
}

#[test]
fn a_change_of_permissions_counts_at_once() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    assert_eq!(code(session(broker.connect(), "alice", "secret", async |_| Ok(()))), Some(530));
    broker.set_permissions("alice", "/", Permissions { configure: "^mine", ..Permissions::ALL }).unwrap();
    session(broker.connect(), "alice", "secret", async |connection| {
        declares(&connection, "mine").await?;
        assert_eq!(code(declares(&connection, "other").await), Some(403));
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
fn topics_may_name_the_user_and_the_virtual_host() {
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
fn what_cannot_be_is_refused() {
    let broker = Broker::in_memory();
    let unknown = Err(UserError::NoSuchUser("nobody".to_owned()));
    assert_eq!(broker.delete_user("nobody"), unknown);
    assert_eq!(broker.set_permissions("nobody", "/", Permissions::ALL), unknown);
    assert_eq!(broker.set_impersonator("nobody", true), unknown);
    assert_eq!(broker.add_user("alice", ""), Err(UserError::Password));
    let wrong = Permissions { configure: "(", ..Permissions::ALL };
    let error = broker.set_permissions("guest", "/", wrong).unwrap_err();
    assert!(matches!(&error, UserError::Pattern(pattern, _) if pattern == "("), "{error}");
}

#[test]
fn nothing_shows_a_password() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "hunter2").unwrap();
    assert!(!format!("{broker:?}").contains("hunter2"));
}
