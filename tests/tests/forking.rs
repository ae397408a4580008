//! Processes that are forked while connections exist: the child's calls fail at once, its own connections work, and the
//! parent notices nothing.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fork::Fork;
use futures_lite::future;
use hopmq::{Error, ErrorKind, Reactor};
use hopmq_broker::Broker;

/// Longer than any call of a child may take, and much less than any timeout.
const SOON: Duration = Duration::from_secs(5);

/// Runs `body` in a child process, and returns what it reports. The child is killed after a minute.
fn in_child(body: impl FnOnce() -> String) -> String {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    match fork::fork().expect("the system has room for a process") {
        Fork::Child => {
            let report = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| "panicked".to_owned());
            let sent = far.write_all(report.as_bytes());
            std::process::exit(i32::from(sent.is_err()));
        }
        Fork::Parent(child) => {
            drop(far);
            near.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout above zero");
            let mut report = String::new();
            let read = near.read_to_string(&mut report);
            if let Err(error) = read {
                let _ = std::process::Command::new("kill").args(["-9", &child.to_string()]).status();
                report = format!("the child hangs: {error}");
            }
            fork::waitpid(child).expect("the child is ours");
            report
        }
    }
}

/// Checks that a call in a child fails at once because the connection is the parent's. Returns what is wrong.
fn foreign<T>(what: &str, call: impl FnOnce() -> Result<T, Error>) -> String {
    let begin = Instant::now();
    let result = call().map(drop);
    let time = begin.elapsed();
    match result {
        Err(error) if error.kind() == ErrorKind::Usage && error.to_string().contains("another process") => {
            if time < SOON { String::new() } else { format!("{what} took {time:?}; ") }
        }
        other => format!("{what}: {other:?} after {time:?}; "),
    }
}

fn broker() -> (Broker, SocketAddr) {
    let broker = Broker::builder().start();
    let address = broker.listen("127.0.0.1:0").expect("a free port");
    (broker, address)
}

#[test]
fn a_blocking_connection_fails_at_once_in_a_child_and_works_on_in_the_parent() {
    let (_broker, address) = broker();
    let connection = hopmq_blocking::Connection::open(&format!("amqp://{address}")).expect("the broker is there");
    let channel = connection.channel().expect("a channel");
    let queue = channel.queue("").exclusive().declare().expect("a queue");
    let mut consumer = queue.consume().start().expect("a consumer");
    queue.publish("held").confirm().expect("the broker confirms");
    let held = consumer.next().expect("a delivery").expect("a delivery");
    // Each call is the first one of its child.
    let reports = [
        in_child(|| foreign("a channel", || connection.channel())),
        in_child(|| foreign("a confirm", || queue.publish("x").confirm())),
        in_child(|| foreign("a send", || queue.publish("x").send())),
        in_child(|| foreign("a get", || queue.get())),
        in_child(|| foreign("a close", || connection.close())),
        in_child(|| match consumer.next() {
            Some(Err(error)) => foreign("a delivery", || Err::<(), _>(error)),
            other => format!("a delivery: {other:?}"),
        }),
        in_child(|| {
            let begin = Instant::now();
            let event = connection.events().next();
            let begin_drop = Instant::now();
            if begin_drop - begin > SOON { format!("{event:?}") } else { String::new() }
        }),
    ];
    assert_eq!(reports.concat(), "");
    let report = in_child(|| {
        let begin = Instant::now();
        let ack = foreign("an ack", || held.ack());
        drop((consumer, queue, channel, connection));
        if begin.elapsed() < SOON { ack } else { format!("{ack} the drop took {:?}", begin.elapsed()) }
    });
    assert_eq!(report, "");
}

#[test]
fn a_parent_continues_after_its_children_dropped_all_handles() {
    let (_broker, address) = broker();
    let connection = hopmq_blocking::Connection::open(&format!("amqp://{address}")).expect("the broker is there");
    let queue = connection.channel().expect("a channel").queue("").exclusive().declare().expect("a queue");
    let mut events = connection.events();
    let both = (connection, queue);
    for _ in 0..3 {
        let copy = (both.0.clone(), both.1.clone());
        let report = in_child(move || {
            drop(copy);
            String::new()
        });
        assert_eq!(report, "");
        both.1.publish("x").confirm().expect("the connection is the parent's");
        assert!(both.1.get().expect("the connection is the parent's").is_some());
    }
    assert!(events.next_now().item().is_none(), "nothing happened to the connection");
}

#[test]
fn an_asynchronous_connection_fails_at_once_in_a_child() {
    let (_broker, address) = broker();
    let uri = format!("amqp://{address}");
    let connection = future::block_on(hopmq::Connection::open(&uri)).expect("the broker is there");
    let channel = future::block_on(connection.channel()).expect("a channel");
    let reports = [
        in_child(|| foreign("a channel", || future::block_on(connection.channel()))),
        in_child(|| foreign("a confirm", || future::block_on(channel.publish("", "x", "x").confirm()))),
        in_child(|| foreign("a send", || future::block_on(async { channel.publish("", "x", "x").send().await }))),
        in_child(|| foreign("a close", || future::block_on(connection.close()))),
    ];
    assert_eq!(reports.concat(), "");
    future::block_on(channel.publish("", "x", "x").confirm()).expect("the connection is the parent's");
    future::block_on(connection.close()).expect("the connection is the parent's");
}

#[test]
fn a_driver_that_a_child_polls_ends_without_touching_the_socket() {
    let (_broker, address) = broker();
    let builder = hopmq::Connection::builder().uri(&format!("amqp://{address}"));
    let mut reactor = Reactor::new().expect("an event queue");
    let handle = reactor.handle();
    reactor.block_on(async {
        let (connection, driver) = builder.connect_on(&handle).await.expect("the broker is there");
        let mut driver = driver;
        let channel = future::or(async { Some(connection.channel().await) }, async {
            (&mut driver).await;
            None
        });
        channel.await.expect("the driver goes on").expect("a channel");
        let mut slot = Some(driver);
        let report = in_child(|| {
            let driver = slot.take().expect("the child's copy");
            foreign("a request", || future::block_on(future::zip(driver, connection.channel())).1)
        });
        assert_eq!(report, "");
        let driver = slot.take().expect("the parent's copy");
        let (_, closed) = future::zip(driver, connection.close()).await;
        closed.expect("the connection is the parent's");
    });
}

#[test]
fn a_child_opens_connections_of_its_own() {
    let (_broker, address) = broker();
    // By name, so that the child resolves it.
    let uri = format!("amqp://localhost:{}", address.port());
    let open = |uri: &str| future::block_on(async { hopmq::Connection::open(uri).await?.close().await });
    let open_blocking = |uri: &str| hopmq_blocking::Connection::open(uri)?.close();
    open(&uri).expect("the broker is there");
    open_blocking(&uri).expect("the broker is there");
    let report = in_child(|| {
        let begin = Instant::now();
        let results = [open_blocking(&uri), open(&uri), open(&uri)];
        // A grandchild has no thread of the child.
        let grandchild = in_child(|| format!("{:?}", [open(&uri), open_blocking(&uri)]));
        format!("{results:?} {grandchild} {}", begin.elapsed() < SOON)
    });
    assert_eq!(report, "[Ok(()), Ok(()), Ok(())] [Ok(()), Ok(())] true");
}

#[test]
fn a_child_learns_that_the_reactor_of_its_parent_is_not_its_own() {
    let (_broker, address) = broker();
    let builder = hopmq::Connection::builder().uri(&format!("amqp://{address}"));
    smol::block_on(async {
        let (connection, driver) = builder.connect().await.expect("the broker is there");
        future::zip(driver, connection.close()).await.1.expect("the broker is there");
    });
    let mut reactor = Reactor::new().expect("an event queue");
    let report = in_child(|| {
        let handle = reactor.handle();
        foreign("connect", || future::block_on(builder.connect()))
            + &foreign("connect_on", || reactor.block_on(builder.connect_on(&handle)))
    });
    assert_eq!(report, "");
}

#[test]
fn a_fork_at_any_moment_leaves_a_child_that_does_not_hang() {
    let (_broker, address) = broker();
    let uri = format!("amqp://{address}");
    let connection = hopmq_blocking::Connection::open(&uri).expect("the broker is there");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let channel = connection.channel().expect("a channel");
                while !stop.load(Ordering::SeqCst) {
                    channel.publish("amq.fanout", "", vec![0; 100]).send().expect("the connection is the parent's");
                }
            });
        }
        let channel = connection.channel().expect("a channel");
        for round in 0..30 {
            let report = in_child(|| {
                let report = foreign("a confirm", || channel.publish("", "x", "x").confirm());
                report + &hopmq_blocking::Connection::open(&uri).err().map_or(String::new(), |error| error.to_string())
            });
            if !report.is_empty() {
                stop.store(true, Ordering::SeqCst);
                panic!("round {round}: {report}");
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    connection.close().expect("the connection is the parent's");
}
