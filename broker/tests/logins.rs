//! Logins that are not friendly: guesses, floods, and connections that never log in.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::thread;

use futures_lite::AsyncReadExt;
use futures_lite::future::{block_on, zip};
use hopmq::{Connection, ErrorKind, IoTimer};
use hopmq_broker::{Broker, Clock, LoginCounts, Permissions};

fn broker() -> Broker {
    with_users(&Broker::builder().clock(&Clock::manual()).start())
}

fn with_users(broker: &Broker) -> Broker {
    for user in ["alice", "bob"] {
        broker.add_user(user, "secret").unwrap();
        broker.set_permissions(user, "/", Permissions::ALL).unwrap();
    }
    broker.clone()
}

/// Logs in as a client at that address, and closes the connection. Returns the code of the refusal.
fn log_in(broker: &Broker, address: &str, user: &str, password: &str) -> Option<u16> {
    let address: IpAddr = address.parse().unwrap();
    let result = block_on(async {
        let builder = Connection::builder().credentials(user, password);
        let (connection, driver) = builder.handshake(broker.connect_from(address), IoTimer::new()).await?;
        zip(driver, connection.close()).await.1
    });
    result.err().map(|error: hopmq::Error| error.code().unwrap_or_default())
}

/// Guesses passwords, which are verified at once.
fn guess(broker: &Broker, address: &str, user: &str, count: u32) {
    for number in 0..count {
        assert_eq!(log_in(broker, address, user, &format!("guess-{user}-{number}")), Some(403));
    }
}

#[test]
fn guesses_must_wait_and_keep_no_other_client_out() {
    let broker = broker();
    guess(&broker, "192.0.2.1", "alice", 10);
    thread::scope(|scope| {
        let eleventh = scope.spawn(|| log_in(&broker, "192.0.2.1", "alice", "guess"));
        broker.wait_until(|_| broker.login_counts().throttled == 1);
        assert_eq!(log_in(&broker, "192.0.2.2", "alice", "secret"), None, "from another address");
        assert_eq!(log_in(&broker, "192.0.2.1", "bob", "secret"), None, "another user");
        assert!(!eleventh.is_finished());
        broker.advance("2s");
        assert_eq!(eleventh.join().unwrap(), Some(403));
    });
    let LoginCounts { accepted, refused, throttled, turned_away, .. } = broker.login_counts();
    assert_eq!((accepted, refused, throttled, turned_away), (2, 11, 1, 0));
}

#[test]
fn an_unknown_user_is_throttled_as_a_known_one() {
    for user in ["alice", "unknown"] {
        let broker = broker();
        guess(&broker, "192.0.2.1", user, 10);
        thread::scope(|scope| {
            let eleventh = scope.spawn(|| log_in(&broker, "192.0.2.1", user, "guess"));
            broker.wait_until(|_| broker.login_counts().throttled == 1);
            broker.advance("2s");
            assert_eq!(eleventh.join().unwrap(), Some(403), "{user}");
        });
    }
}

#[test]
fn a_login_that_waits_too_long_is_told_to_come_back() {
    let broker = broker();
    guess(&broker, "192.0.2.1", "alice", 10);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn({
                    let broker = &broker;
                    move || log_in(broker, "192.0.2.1", "alice", &format!("late-{number}"))
                })
            })
            .collect();
        broker.wait_until(|_| broker.login_counts().throttled == 20);
        for _ in 0..4 {
            broker.advance("2s");
        }
        let codes: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        // One every two seconds is verified; the others are not said to be wrong.
        assert!(codes.iter().all(|code| matches!(code, Some(403 | 320))), "{codes:?}");
        let refused = codes.iter().filter(|code| **code == Some(403)).count();
        assert!((1..=4).contains(&refused), "{codes:?}");
    });
}

#[test]
fn a_changed_password_is_no_longer_remembered() {
    let broker = broker();
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "secret"), None);
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "other"), Some(403));
    broker.add_user("alice", "other").unwrap();
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "secret"), Some(403));
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "other"), None);
    broker.delete_user("alice").unwrap();
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "other"), Some(403));
}

#[test]
fn clients_of_a_shared_address_wait_for_two_seconds_at_most() {
    let gateway = "192.0.2.1";
    let builder = Broker::builder().clock(&Clock::manual()).shared_address(gateway.parse().unwrap());
    let broker = with_users(&builder.start());
    guess(&broker, gateway, "alice", 10);
    for number in 0..200 {
        assert_eq!(log_in(&broker, gateway, &format!("user-{number}"), "guess"), Some(403));
    }
    assert_eq!(log_in(&broker, gateway, "bob", "secret"), None);
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn({
                    let broker = &broker;
                    move || log_in(broker, gateway, "alice", &format!("again-{number}"))
                })
            })
            .collect();
        broker.wait_until(|_| broker.login_counts().throttled == 20);
        let alice = scope.spawn(|| log_in(&broker, gateway, "alice", "secret"));
        broker.wait_until(|_| broker.login_counts().throttled == 21);
        broker.advance("2s");
        assert_eq!(alice.join().unwrap(), None);
        attackers.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Some(403)));
    });
}

#[test]
fn connections_that_do_not_log_in_are_bounded() {
    let broker = broker();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let mut idle: Vec<_> = (0..2_000).map(|_| broker.connect_from(address)).collect();
    let mut one_more = broker.connect_from(address);
    broker.wait_until(|_| broker.login_counts().turned_away == 1);
    assert_eq!(block_on(one_more.read(&mut [0; 1])).unwrap_or_default(), 0, "it was closed at once");
    assert_eq!(log_in(&broker, "192.0.2.2", "alice", "secret"), None, "another address");
    idle.pop();
    broker.wait_until(|_| broker.login_counts().pending < 2_000);
    assert_eq!(log_in(&broker, "192.0.2.1", "alice", "secret"), None);
    // The time limit for the login, and for the client to close its side.
    broker.advance("10s");
    broker.wait_until(|inspector| inspector.connections().is_empty());
    broker.advance("30s");
    broker.wait_until(|_| broker.login_counts().pending == 0);
}

#[test]
fn a_client_that_has_logged_in_makes_room() {
    let broker = broker();
    block_on(async {
        let builder = Connection::builder().credentials("alice", "secret");
        let transport = broker.connect_from("192.0.2.1".parse().unwrap());
        let (connection, driver) = builder.handshake(transport, IoTimer::new()).await.unwrap();
        let work = async {
            connection.channel().await.unwrap();
            assert_eq!(broker.login_counts().pending, 0);
            connection.close().await
        };
        zip(driver, work).await.1.unwrap();
    });
}

#[test]
fn the_address_that_a_proxy_sends_is_throttled() {
    let broker = broker();
    let listener = broker.listen_proxied("127.0.0.1:0").unwrap();
    let log_in = |last: u8, password: &str| {
        let mut stream = TcpStream::connect(listener).unwrap();
        let header =
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71", &[last][..], &[127, 0, 0, 1, 0, 1, 0, 2]].concat();
        stream.write_all(&header).unwrap();
        block_on(async {
            let builder = Connection::builder().credentials("alice", password);
            let stream = async_io::Async::new(stream).unwrap();
            let (connection, driver) = builder.handshake(stream, IoTimer::new()).await?;
            zip(driver, connection.close()).await.1
        })
    };
    for number in 0..10 {
        let error = log_in(1, &format!("guess-{number}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
    thread::scope(|scope| {
        let eleventh = scope.spawn(|| log_in(1, "guess").unwrap_err().code());
        broker.wait_until(|_| broker.login_counts().throttled == 1);
        log_in(2, "secret").unwrap();
        broker.advance("2s");
        assert_eq!(eleventh.join().unwrap(), Some(403));
    });
}
