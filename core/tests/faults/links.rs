//! A link that breaks, stalls or goes silent: every wait on it fails in time and with the same reason.

use std::io;

use futures_lite::{Stream, StreamExt};
use hopmq::{Builder, Channel, Confirm, Connection, Consumer, Error, ErrorKind, Event};
use hopmq_proto::method::basic;

use crate::common::{Started, World, frame, header, method, payload, seconds};

/// One wait of each kind.
struct Waiting {
    connection: Connection,
    ends: Vec<(&'static str, Started<Result<(), Error>>)>,
    events: Started<Vec<Event>>,
}

fn builder() -> Builder {
    Connection::builder().heartbeat(seconds(20)).request_timeout(seconds(100))
}

async fn last_of(mut consumer: Consumer) -> Result<(), Error> {
    loop {
        match consumer.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Opens a connection with one wait of each kind.
fn everything_waits(world: &mut World) -> Waiting {
    let connection = world.connect_by(&builder()).unwrap();
    let channel = world.run(connection.channel()).unwrap();
    world.run(channel.queue("q").declare()).unwrap();
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.server.broker.confirms_by_hand = true;
    world.server.holds = vec!["queue.declare", "channel.open", "basic.get", "queue.purge"];
    let mut ends = Vec::new();
    let mut begin = |world: &mut World, name, started| {
        ends.push((name, started));
        world.settle();
    };
    let started = world.start(last_of(consumer));
    begin(world, "consumer", started);
    let other = channel.clone();
    let started = world.start(async move { other.publish("", "q", "x").confirm().await });
    begin(world, "confirm", started);
    let later: Confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    let started = world.start(later);
    begin(world, "confirm later", started);
    let request = channel.queue("r").declare();
    let started = world.start(async move { request.await.map(drop) });
    begin(world, "declare", started);
    let request = channel.get("q");
    let started = world.start(async move { request.await.map(drop) });
    begin(world, "get", started);
    let request = connection.channel();
    let started = world.start(async move { request.await.map(drop) });
    begin(world, "channel", started);
    world.server.flow(1, false);
    world.settle();
    let other = channel.clone();
    let started = world.start(async move { other.publish("", "q", "y").send().await });
    begin(world, "send", started);
    let other = connection.clone();
    let started = world.start(async move { Err(other.closed().await) });
    begin(world, "closed", started);
    let events = connection.events();
    let events = world.start(events.collect());
    for (name, started) in &ends {
        assert!(!started.is_done(), "{name} ended before its time");
    }
    drop(channel);
    Waiting { connection, ends, events }
}

impl Waiting {
    /// Checks that every wait has ended with the same error.
    #[track_caller]
    fn ended(&self, world: &mut World, kind: ErrorKind, code: Option<u16>) {
        world.settle();
        let reason = world.run(self.connection.closed());
        assert_eq!((reason.kind(), reason.code()), (kind, code), "{reason}");
        for (name, started) in &self.ends {
            let error = started.take().unwrap_or_else(|| panic!("{name} still waits")).unwrap_err();
            assert_eq!(error.to_string(), reason.to_string(), "{name}");
            assert_eq!((error.kind(), error.code()), (kind, code), "{name}");
        }
        let events = self.events.take().expect("the events have ended");
        assert!(matches!(events.last(), Some(Event::Closed { error }) if error.kind() == kind), "{events:?}");
        let error = world.run(self.connection.channel()).unwrap_err();
        assert_eq!(error.to_string(), reason.to_string());
        let error = world.run(self.connection.close()).unwrap_err();
        assert_eq!(error.to_string(), reason.to_string());
        assert!(!self.connection.is_open());
    }
}

#[test]
fn an_end_of_the_stream_fails_everything_that_waits() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    world.server.wire.cut();
    waiting.ended(&mut world, ErrorKind::Io, None);
}

#[test]
fn a_reset_fails_everything_that_waits() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    world.server.wire.reset();
    waiting.ended(&mut world, ErrorKind::Io, None);
}

#[test]
fn a_write_error_fails_everything_that_waits() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    world.server.wire.fail_writes(io::ErrorKind::BrokenPipe);
    // Nothing has been written yet, so the error is not known.
    assert!(waiting.connection.is_open());
    world.advance(seconds(10));
    waiting.ended(&mut world, ErrorKind::Io, None);
}

#[test]
fn a_connection_close_fails_everything_that_waits_with_its_code() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    world.server.refuse(320, "CONNECTION_FORCED - broker forced connection closure");
    waiting.ended(&mut world, ErrorKind::ConnectionClosed, Some(320));
    assert_eq!(world.server.count("0 connection.close-ok"), 1);
}

#[test]
fn a_dropped_driver_fails_everything_that_waits() {
    let mut world = World::new();
    let connection = world.connect();
    let channel = world.run(connection.channel()).unwrap();
    world.server.holds = vec!["queue.declare"];
    let mut request = channel.queue("q").declare();
    let mut closed = Box::pin({
        let connection = connection.clone();
        async move { connection.closed().await }
    });
    assert!(crate::common::poll_once(&mut request).is_pending());
    assert!(crate::common::poll_once(&mut closed).is_pending());
    world.drop_tasks();
    let error = world.run(request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("driver was dropped"), "{error}");
    assert_eq!(world.run(closed).to_string(), error.to_string());
    assert_eq!(world.run(channel.publish("", "q", "x").send()).unwrap_err().to_string(), error.to_string());
}

#[test]
fn the_brokers_close_takes_precedence_over_a_later_write_error() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.wire.fail_writes(io::ErrorKind::BrokenPipe);
    world.server.refuse(320, "CONNECTION_FORCED - shutdown");
    world.server.write();
    // The client writes before it reads.
    let sent = world.start(async move { channel.publish("", "q", "x").send().await });
    world.settle();
    drop(sent);
    let reason = world.run(connection.closed());
    assert_eq!((reason.kind(), reason.code()), (ErrorKind::ConnectionClosed, Some(320)), "{reason}");
}

#[test]
fn everything_received_before_the_end_of_the_link_is_processed() {
    const MESSAGES: u64 = 30_000;
    let ack = |delivery_tag| frame(1, 1, &payload(&basic::Ack { delivery_tag, multiple: false }));
    let confirms: Vec<u8> = (1..=MESSAGES).flat_map(ack).collect();
    for writes_fail in [false, true] {
        let mut world = World::with_capacity(1 << 20);
        let (connection, channel) = world.open();
        world.server.broker.confirms_by_hand = true;
        let mut due: Vec<Confirm> = Vec::new();
        for _ in 0..MESSAGES {
            due.push(world.run(channel.publish("", "q", "").confirm_later()).unwrap());
        }
        world.server.raw(&confirms);
        world.server.refuse_for(320, "CONNECTION_FORCED - enough", (0, 0));
        world.server.wire.cut();
        if writes_fail {
            world.server.wire.fail_writes(io::ErrorKind::BrokenPipe);
            drop(world.start(async move { channel.publish("", "q", "").send().await }));
        }
        world.settle();
        for confirm in due {
            world.run(confirm).unwrap();
        }
        let reason = world.run(connection.closed());
        assert_eq!((reason.kind(), reason.code()), (ErrorKind::ConnectionClosed, Some(320)), "{reason}");
    }
}

#[test]
fn a_half_open_link_is_dropped_after_two_heartbeat_intervals() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    let silent_since = world.time.now();
    world.server.silent = true;
    let reason = world.run(waiting.connection.closed());
    assert_eq!(reason.kind(), ErrorKind::Heartbeat);
    assert!(world.time.now() - silent_since <= seconds(40), "{:?}", world.time.now() - silent_since);
    assert!(world.time.now() - silent_since >= seconds(20), "one late heartbeat does not end the link");
    waiting.ended(&mut world, ErrorKind::Heartbeat, None);
}

#[test]
fn a_half_open_link_that_takes_no_bytes_is_dropped_as_fast() {
    let mut world = World::new();
    let waiting = everything_waits(&mut world);
    let silent_since = world.time.now();
    world.server.silent = true;
    world.server.wire.stall_writes(true);
    assert_eq!(world.run(waiting.connection.closed()).kind(), ErrorKind::Heartbeat);
    assert!(world.time.now() - silent_since <= seconds(40));
}

#[test]
fn heartbeats_keep_an_idle_connection_open() {
    let mut world = World::new();
    let connection = world.connect_by(&builder()).unwrap();
    world.advance(seconds(600));
    assert!(connection.is_open());
    assert!(world.server.violation.is_none());
    let gaps: Vec<_> = world.server.heartbeats().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() > 50 && gaps.iter().all(|gap| *gap == seconds(10)), "{gaps:?}");
}

#[test]
fn publishing_counts_for_a_heartbeat() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&builder());
    for _ in 0..100 {
        world.run(channel.publish("", "q", "x").send()).unwrap();
        world.advance(seconds(1));
    }
    assert_eq!(world.server.heartbeats(), []);
    assert!(world.server.violation.is_none());
}

#[test]
fn heartbeats_flow_while_publishing_is_blocked() {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&builder());
    world.server.answer(0, &method::connection::Blocked { reason: "low on memory" });
    world.settle();
    let long = channel.within(seconds(900));
    let sent = world.start(async move { long.publish("", "q", "x").send().await });
    world.advance(seconds(300));
    assert!(!sent.is_done() && connection.is_open());
    assert!(world.server.heartbeats().len() >= 29, "{}", world.server.heartbeats().len());
    assert!(world.server.violation.is_none());
    world.server.answer(0, &method::connection::Unblocked {});
    world.settle();
    sent.done().unwrap();
    assert_eq!(connection.stats().blocked, seconds(300));
}

#[test]
fn a_socket_that_takes_no_bytes_is_dropped_after_write_timeout() {
    let mut world = World::new();
    let builder = builder().heartbeat(seconds(0)).write_timeout(seconds(15));
    let (connection, channel) = world.open_by(&builder);
    world.server.wire.stall_writes(true);
    world.advance(seconds(100));
    assert!(connection.is_open(), "there was nothing to write");
    world.run(channel.publish("", "q", "x").send()).unwrap();
    let start = world.time.now();
    let reason = world.run(connection.closed());
    assert_eq!(reason.kind(), ErrorKind::Timeout);
    assert!(reason.to_string().contains("15s"), "{reason}");
    assert_eq!(world.time.now() - start, seconds(15));
}

#[test]
fn write_timeout_is_suspended_while_the_broker_blocks_publishing() {
    let mut world = World::new();
    let builder = builder().heartbeat(seconds(0)).write_timeout(seconds(15));
    let (connection, channel) = world.open_by(&builder);
    world.server.wire.stall_writes(true);
    world.run(channel.publish("", "q", "x").send()).unwrap();
    world.server.answer(0, &method::connection::Blocked { reason: "low on disk" });
    world.advance(seconds(500));
    assert!(connection.is_open());
    world.server.answer(0, &method::connection::Unblocked {});
    world.advance(seconds(14));
    assert!(connection.is_open(), "the whole write timeout starts again");
    world.advance(seconds(1));
    assert_eq!(world.run(connection.closed()).kind(), ErrorKind::Timeout);
}

#[test]
fn a_message_cut_at_any_byte_is_never_delivered_in_part() {
    let mut bytes = frame(1, 1, &payload(&basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() }));
    bytes.extend(frame(2, 1, &header(10)));
    bytes.extend(frame(3, 1, b"01234"));
    bytes.extend(frame(3, 1, b"56789"));
    for cut in 0..=bytes.len() {
        let mut world = World::new();
        let (_connection, channel) = world.open();
        world.run(channel.queue("q").declare()).unwrap();
        let mut consumer = world.run(channel.consume("q").tag("c").start()).unwrap();
        world.server.raw(&bytes[..cut]);
        world.settle();
        world.server.wire.cut();
        let first = world.run(consumer.next()).expect("a delivery or an error");
        if cut == bytes.len() {
            assert_eq!(first.unwrap().body(), b"0123456789");
        } else {
            assert_eq!(first.unwrap_err().kind(), ErrorKind::Io, "cut after {cut}");
            assert!(world.run(consumer.next()).is_none());
        }
    }
}

#[test]
fn deliveries_received_before_the_end_are_delivered() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(channel.consume("q").tag("c").start()).unwrap();
    for tag in 1..=3 {
        world.server.message(1, &basic::Deliver { consumer_tag: "c", delivery_tag: tag, ..Default::default() }, b"x");
    }
    world.server.write();
    world.server.wire.cut();
    for _ in 0..3 {
        assert!(world.run(consumer.next()).unwrap().is_ok());
    }
    assert!(world.run(consumer.next()).unwrap().is_err());
    assert!(world.run(consumer.next()).is_none());
}

fn _streams_are_streams(events: hopmq::Events, channel: &Channel) -> (impl Stream, impl Stream) {
    (events, channel.returns())
}
