//! Injected faults, and how a client sees them.

use std::time::Duration;

use futures_lite::future::{block_on, poll_once, yield_now, zip};
use hopmq_blocking::{Connection, ErrorKind, Recovery};
use hopmq_broker::{Broker, Clock, Confirms, Direction};

/// Opens a connection without recovery.
fn connect(broker: &Broker) -> hopmq_blocking::Result<Connection> {
    Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open()
}

#[test]
fn a_connection_can_be_cut_after_or_within_any_frame() {
    for direction in [Direction::FromClient, Direction::ToClient] {
        for within in [false, true] {
            for frames in 0..12 {
                let broker = Broker::in_memory();
                let next = broker.faults().next_connection();
                if within {
                    next.cut_within(direction, frames);
                } else {
                    next.cut_after(direction, frames);
                }
                let session = || {
                    let connection = connect(&broker)?;
                    let queue = connection.channel()?.queue("q").declare()?;
                    for _ in 0..10 {
                        queue.publish("x").confirm()?;
                    }
                    connection.close()
                };
                let error = session().unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Io | ErrorKind::Protocol),
                    "{direction:?} {frames}: {error:?}"
                );
                broker.wait_until(|inspector| inspector.connections().is_empty());
                let passed = broker.transcript().iter().filter(|passed| passed.direction == direction).count();
                assert_eq!(passed as u64, frames);
            }
        }
    }
}

#[test]
fn confirms_can_be_withheld_or_refused() {
    let broker = Broker::in_memory();
    let connection = connect(&broker).unwrap();
    let queue = connection.channel().unwrap().queue("q").declare().unwrap();
    broker.faults().confirms(Confirms::Withheld);
    let mut waiting = queue.publish("first").confirm_later().unwrap();
    broker.wait_until(|inspector| inspector.queue("q").unwrap().ready == 1 && inspector.channels()[0].unconfirmed == 1);
    assert_eq!(waiting.wait_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    broker.faults().confirms(Confirms::True);
    waiting.wait().unwrap();
    broker.faults().confirms(Confirms::Refused);
    assert_eq!(queue.publish("second").confirm().unwrap_err().kind(), ErrorKind::Nacked);
    broker.faults().confirms(Confirms::True);
    queue.publish("third").confirm().unwrap();
    connection.close().unwrap();
}

#[test]
fn channels_and_connections_can_be_closed_with_any_code() {
    let broker = Broker::in_memory();
    let connection = connect(&broker).unwrap();
    let channel = connection.channel().unwrap();
    channel.queue("q").declare().unwrap();
    let id = broker.inspect().connections()[0].id;
    broker.faults().connection(id).close_channel(1, 406, "on purpose");
    let error = channel.queue("q").declare().unwrap_err();
    assert_eq!(error.code(), Some(406));
    assert!(error.to_string().contains("PRECONDITION_FAILED - on purpose"), "{error}");
    connection.channel().unwrap().queue("q").declare().unwrap();
    broker.faults().every_connection().close(320, "closed by a test");
    let error = connection.closed();
    assert_eq!(error.code(), Some(320));
    assert!(error.to_string().contains("CONNECTION_FORCED - closed by a test"), "{error}");
    broker.assert_idle();
}

#[test]
fn messages_stay_in_the_queue_when_their_consumer_is_cancelled() {
    let broker = Broker::in_memory();
    let connection = connect(&broker).unwrap();
    let queue = connection.channel().unwrap().queue("q").declare().unwrap();
    let mut consumer = queue.consume().tag("worker").start().unwrap();
    assert_eq!(broker.faults().cancel_consumer("worker"), 1);
    assert!(consumer.next().unwrap().is_err());
    queue.publish("x").confirm().unwrap();
    assert_eq!(broker.inspect().queue("q").unwrap().ready, 1);
    connection.close().unwrap();
}

#[test]
fn the_next_n_logins_can_be_refused() {
    let broker = Broker::in_memory();
    broker.faults().refuse_logins(2);
    for _ in 0..2 {
        assert_eq!(connect(&broker).unwrap_err().kind(), ErrorKind::Authentication);
    }
    connect(&broker).unwrap().close().unwrap();
}

#[test]
fn publishers_are_blocked_while_an_alarm_is_raised() {
    let broker = Broker::in_memory();
    let connection = connect(&broker).unwrap();
    let queue = connection.channel().unwrap().queue("q").declare().unwrap();
    broker.faults().disk_alarm(true);
    let waiting = queue.publish("x").confirm_later().unwrap();
    broker.wait_until(|inspector| inspector.connections()[0].blocked);
    let blocked = broker.transcript().into_iter().find(|passed| passed.name == "connection.blocked").unwrap();
    assert!(blocked.detail.contains("low on disk"), "{blocked}");
    broker.faults().disk_alarm(false);
    waiting.wait().unwrap();
    connection.close().unwrap();
}

#[test]
fn missed_heartbeats_end_a_silenced_connection() {
    let clock = Clock::manual();
    let broker = Broker::builder().clock(&clock).start();
    let connection = connect(&broker).unwrap();
    let queue = connection.channel().unwrap().queue("q").declare().unwrap();
    broker.faults().every_connection().silence();
    let lost = queue.publish("x").confirm_later().unwrap();
    broker.advance("10m");
    assert_eq!(broker.inspect().connections().len(), 1);
    // `Broker::advance` keeps connections alive; advancing the clock itself does not.
    clock.advance(Duration::from_secs(600));
    broker.wait_until(|inspector| inspector.connections().is_empty());
    assert!(lost.wait().is_err());
    assert_eq!(broker.inspect().queue("q").unwrap().ready, 0);
}

#[test]
fn delayed_frames_arrive_later_on_the_brokers_clock() {
    let broker = Broker::builder().clock(&Clock::manual()).start();
    block_on(async {
        let builder = hopmq::Connection::builder();
        let (connection, driver) = builder.handshake(broker.connect(), hopmq::IoTimer::new()).await.unwrap();
        let work = async {
            let queue = connection.channel().await.unwrap().queue("q").declare().await.unwrap();
            broker.faults().every_connection().delay("30s");
            let mut confirm = queue.publish("x").confirm_later().await.unwrap();
            // The driver runs and writes.
            yield_now().await;
            broker.advance("29s");
            assert_eq!(broker.inspect().queue("q").unwrap().ready, 0);
            broker.advance("1s");
            assert_eq!(broker.inspect().queue("q").unwrap().ready, 1);
            broker.advance("29s");
            yield_now().await;
            assert!(poll_once(&mut confirm).await.is_none());
            broker.advance("1s");
            confirm.await.unwrap();
            broker.faults().every_connection().delay("0s");
            connection.close().await.unwrap();
        };
        zip(driver, work).await;
    });
}

#[test]
fn random_cuts_depend_on_the_seed_only() {
    let draws = [7, 7, 8].map(|seed| {
        let broker = Broker::builder().seed(seed).start();
        [(); 5].map(|()| broker.faults().next_connection().cut_at_random(1000))
    });
    assert!(draws[0] == draws[1] && draws[0] != draws[2]);
}

#[test]
fn a_transcript_shows_every_frame_but_no_password() {
    let broker = Broker::in_memory();
    let connection = connect(&broker).unwrap();
    connection.channel().unwrap().queue("q").declare().unwrap().publish("hello").confirm().unwrap();
    connection.close().unwrap();
    let lines: Vec<String> = broker.transcript().iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    let names = [
        "→ protocol",
        "← connection.start",
        "→ connection.start-ok",
        "→ queue.declare",
        "→ basic.publish",
        "→ header  for a body of 5 bytes",
        "→ body  5 bytes",
        "← basic.ack",
        "→ connection.close",
    ];
    let mut rest = &text[..];
    for name in names {
        let at = rest.find(name).unwrap_or_else(|| panic!("{name} is missing in\n{text}"));
        rest = &rest[at..];
    }
    assert!(!text.contains("\\0guest"), "{text}");
}
