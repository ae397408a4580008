//! Replacing a lost link: when, how often, and what ends the attempts.

use std::time::Duration;

use futures_lite::StreamExt;
use hopmq::sasl::Credentials;
use hopmq::{Connection, ErrorKind, Event, Recovery, WhileLost};

use crate::common::{Failure, Reaction, Stage, World, fault, recovering, seconds};

fn names(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::Lost { .. } => "lost",
        Event::Connecting { .. } => "connecting",
        Event::Connected { .. } => "connected",
        Event::Retrying { .. } => "retrying",
        Event::Recovered { .. } => "recovered",
        Event::GaveUp { .. } => "gave up",
        Event::Closed { .. } => "closed",
        _ => "other",
    };
    events.iter().map(name).collect()
}

#[test]
fn a_cut_link_is_replaced_and_reported_by_events() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let events = world.start(connection.events().collect::<Vec<_>>());
    world.server.wire.cut();
    world.settle();
    assert!(connection.is_open() && !connection.is_connected());
    world.advance(seconds(1));
    assert!(connection.is_connected());
    world.run(channel.queue("q").declare()).unwrap();
    world.run(channel.publish("", "q", "x").confirm()).unwrap();
    world.run(connection.close()).unwrap();
    let events = world.wait(&events);
    assert_eq!(names(&events), ["lost", "connecting", "connected", "recovered", "closed"]);
    assert_eq!(world.server.violation, None);
}

#[test]
fn a_link_that_fails_in_any_way_is_replaced() {
    type Break = fn(&mut World);
    let breaks: [(&str, Break); 6] = [
        ("cut", |world| world.server.wire.cut()),
        ("reset", |world| world.server.wire.reset()),
        ("writes fail", |world| world.server.wire.fail_writes(std::io::ErrorKind::BrokenPipe)),
        ("half open", |world| world.server.silent = true),
        ("closed by force", |world| world.server.refuse(320, "CONNECTION_FORCED - operator")),
        ("garbage", |world| world.server.raw(b"what is this")),
    ];
    for (name, break_it) in breaks {
        let mut world = World::new();
        let (connection, channel) = world.open_lasting(&recovering());
        let begin = world.time.now();
        break_it(&mut world);
        world.advance(seconds(60));
        assert!(connection.is_connected(), "{name}");
        assert_eq!(world.net.dials().len(), 2, "{name}");
        assert!(world.net.dials()[1] - begin <= seconds(41), "{name}: noticed within two heartbeats");
        world.run(channel.queue("q").declare()).unwrap();
    }
}

#[test]
fn delays_grow_are_random_and_repeat_with_their_seed() {
    let run = |seed| {
        let mut world = World::new();
        let recovery = Recovery::new().delays(seconds(1), seconds(30)).seed(seed);
        let connection = world.connect_lasting(&recovering().recovery(recovery)).unwrap();
        world.net.down(true);
        world.server.wire.cut();
        world.advance(seconds(600));
        assert!(connection.is_open());
        world.net.dials()
    };
    let dials = run(3);
    assert_eq!(dials, run(3));
    assert_ne!(dials, run(4));
    let delays: Vec<Duration> = dials.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!((25..100).contains(&delays.len()), "{} attempts in ten minutes", delays.len());
    assert!(delays.iter().all(|delay| *delay <= seconds(30)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > seconds(15)), "{delays:?}");
}

#[test]
fn reconnects_slow_down_when_the_broker_drops_each_link_at_once() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering()).unwrap();
    for _ in 0..50 {
        world.server.wire.cut();
        while connection.is_connected() {
            world.settle();
        }
        while !connection.is_connected() {
            world.advance(Duration::from_millis(100));
        }
    }
    let dials = world.net.dials();
    let time = *dials.last().unwrap() - dials[1];
    assert!(time > seconds(60), "fifty links in {time:?}");
}

/// Cuts the link after it has worked for `time`, and returns the delay until the next attempt.
fn cut_after(world: &mut World, connection: &Connection, time: Duration) -> Duration {
    world.advance(time);
    assert!(connection.is_connected());
    let cut = world.time.now();
    let dials = world.net.dials().len();
    world.server.wire.cut();
    while world.net.dials().len() == dials {
        world.advance(Duration::from_millis(1));
    }
    while !connection.is_connected() {
        world.advance(Duration::from_millis(1));
    }
    world.net.dials()[dials] - cut
}

/// A tenth of the first delay.
const AT_ONCE: Duration = Duration::from_millis(10);

#[test]
fn a_link_that_worked_is_replaced_at_once() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering()).unwrap();
    assert!(cut_after(&mut world, &connection, seconds(1)) <= AT_ONCE);
    // The same holds after an outage with long delays.
    world.net.down(true);
    world.server.wire.cut();
    world.advance(seconds(120));
    world.net.down(false);
    while !connection.is_connected() {
        world.advance(Duration::from_millis(1));
    }
    assert!(cut_after(&mut world, &connection, seconds(1)) <= AT_ONCE);
    // A failed attempt is followed by a short delay then.
    world.advance(seconds(1));
    world.net.fail([Failure::Refused]);
    world.server.wire.cut();
    world.advance(Duration::from_millis(110));
    assert!(connection.is_connected());
}

#[test]
fn reconnects_slow_down_when_each_link_lives_only_a_second() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering()).unwrap();
    let waits: Vec<Duration> = (0..50).map(|_| cut_after(&mut world, &connection, seconds(1))).collect();
    let (quick, slow) = waits.split_at(10);
    assert!(quick.iter().all(|wait| *wait <= AT_ONCE), "{quick:?}");
    let time: Duration = slow.iter().sum();
    assert!(time > seconds(60), "forty links in {time:?} and forty seconds");
    // A link that outlives the longest delay resets the count.
    assert!(cut_after(&mut world, &connection, seconds(6)) <= AT_ONCE);
    assert!(cut_after(&mut world, &connection, seconds(1)) <= AT_ONCE);
}

#[test]
fn a_link_lost_during_the_replay_does_not_count_as_working() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    world.advance(seconds(60));
    world.server.holds = vec!["queue.declare"];
    world.server.wire.cut();
    let mut waited = Duration::ZERO;
    for _ in 0..30 {
        let cut = world.time.now();
        let dials = world.net.dials().len();
        while world.net.dials().len() == dials {
            world.advance(Duration::from_millis(1));
        }
        waited += world.net.dials()[dials] - cut;
        // Long enough to count as working, if the replay had ended.
        world.advance(seconds(8));
        assert!(!connection.is_connected());
        world.server.wire.cut();
        world.settle();
    }
    assert!(waited > seconds(20), "thirty links with {waited:?} between them");
}

#[test]
fn attempts_and_time_are_limited_on_request() {
    let limited = [
        (Recovery::new().attempts(3), "3 attempts to reconnect failed"),
        (Recovery::new().total_time(seconds(20)), "the connection could not be restored within 20s"),
    ];
    for (recovery, text) in limited {
        let mut world = World::new();
        let connection = world.connect_lasting(&recovering().recovery(recovery)).unwrap();
        let events = world.start(connection.events().collect::<Vec<_>>());
        let begin = world.time.now();
        world.net.down(true);
        world.server.wire.cut();
        let error = world.run(connection.closed());
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(error.to_string().contains("connection refused"), "{error}");
        assert!(world.time.now() - begin <= seconds(20));
        let names = names(&world.wait(&events));
        assert_eq!(names[names.len() - 2..], ["gave up", "closed"]);
        assert!(names.contains(&"retrying"), "{names:?}");
    }
}

#[test]
fn repeated_refusals_end_the_attempts() {
    let refusals = [
        (403, "ACCESS_REFUSED - login was refused", 4),
        (530, "NOT_ALLOWED - vhost shop not found", 4),
        (530, "NOT_ALLOWED - connection limit (1) is reached", 20),
        (530, "NOT_ALLOWED - access to vhost '/' refused for user 'hopmq-limited'", 4),
        (530, "NOT_ALLOWED - access to vhost 'connection limit' refused for user 'guest'", 4),
    ];
    for (code, text, tries) in refusals {
        let mut world = World::new();
        let recovery = Recovery::new().delays(seconds(1), seconds(1)).attempts(20).seed(1);
        let connection = world.connect_lasting(&recovering().recovery(recovery)).unwrap();
        world.server.wire.cut();
        for _ in 0..tries {
            let dials = world.net.dials().len();
            world.server.reactions.insert(Stage::OpenOk, Reaction::Close(code, text));
            while connection.is_open() && world.net.dials().len() == dials {
                // A longer step than the shortest delay could contain two attempts.
                world.advance(Duration::from_millis(1));
            }
        }
        let error = world.run(connection.closed());
        assert_eq!(error.code(), Some(code));
        assert!(error.to_string().contains(text), "{error}");
        // The very first connect succeeded.
        assert_eq!(world.net.dials().len(), 1 + tries, "{text}");
    }
}

#[test]
fn refusals_are_counted_until_a_login_succeeds() {
    let mut world = World::new();
    let recovery = Recovery::new().delays(seconds(1), seconds(1)).refusals(2).seed(1);
    let connection = world.connect_lasting(&recovering().recovery(recovery)).unwrap();
    for _ in 0..5 {
        world.server.wire.cut();
        for _ in 0..2 {
            let dials = world.net.dials().len();
            world.server.reactions.insert(Stage::OpenOk, Reaction::Close(403, "ACCESS_REFUSED - starting"));
            while world.net.dials().len() == dials {
                assert!(connection.is_open(), "two refusals in a row are allowed");
                world.advance(Duration::from_millis(1));
            }
        }
        world.server.reactions.clear();
        world.advance(seconds(3));
        assert!(connection.is_connected());
    }
}

#[test]
fn close_ends_the_attempts_at_once() {
    for failures in [vec![], vec![Failure::Refused; 10], vec![Failure::Silence; 10]] {
        let mut world = World::new();
        let connection =
            world.connect_lasting(&recovering().recovery(Recovery::new().delays(seconds(9), seconds(90)))).unwrap();
        world.net.fail(failures);
        world.server.wire.cut();
        world.settle();
        world.advance(Duration::from_millis(10));
        let begin = world.time.now();
        world.run(connection.close()).unwrap();
        assert_eq!(world.time.now(), begin);
        assert!(world.is_idle(), "the driver has ended");
    }
}

#[test]
fn close_ends_a_handshake_that_hangs() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering()).unwrap();
    world.server.reactions.insert(Stage::Tune, Reaction::Stall);
    world.server.wire.cut();
    world.advance(seconds(2));
    assert!(!connection.is_connected());
    let begin = world.time.now();
    world.run(connection.close()).unwrap();
    assert_eq!(world.time.now(), begin);
}

#[test]
fn hosts_that_hang_are_skipped_after_the_timeout() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering().connect_timeout(seconds(7))).unwrap();
    world.net.fail([Failure::Silence]);
    world.server.wire.cut();
    world.advance(seconds(20));
    let dials = world.net.dials();
    assert!(connection.is_connected());
    assert!(dials[2] - dials[1] >= seconds(7));
}

#[test]
fn credentials_are_requested_for_each_attempt() {
    let mut world = World::new();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asked = std::sync::Arc::clone(&count);
    let builder = recovering().credentials_from(move || {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(Ok(Credentials::new("me", format!("token {number}"))))
    });
    let connection = world.connect_lasting(&builder).unwrap();
    world.server.wire.cut();
    world.advance(seconds(2));
    assert!(connection.is_connected());
    let last = world.server.responses.last().unwrap();
    assert!(String::from_utf8_lossy(last).ends_with("token 1"));
}

#[test]
fn the_first_connect_waits_for_the_broker_on_request() {
    let mut world = World::new();
    world.net.fail(vec![Failure::Refused; 5]);
    let connection = world.connect_lasting(&recovering().wait_for_broker(seconds(60))).unwrap();
    assert!(connection.is_connected());
    assert_eq!(world.net.dials().len(), 6);

    let mut world = World::new();
    world.net.down(true);
    let error = world.connect_lasting(&recovering().wait_for_broker(seconds(60))).unwrap_err();
    assert_eq!((error.kind(), world.time.now().since_epoch()), (ErrorKind::Io, seconds(60)));
    let error = world.connect_lasting(&recovering()).unwrap_err();
    assert_eq!((error.kind(), world.time.now().since_epoch()), (ErrorKind::Io, seconds(60)));
}

#[test]
fn a_lost_link_ends_the_connection_with_recovery_off() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering().recovery(Recovery::off())).unwrap();
    world.server.wire.cut();
    assert_eq!(fault(&world.run(connection.closed())), (ErrorKind::Io, None));
    assert_eq!(world.net.dials().len(), 1);
}

#[test]
fn publishing_without_a_link_waits_or_fails_as_configured() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering().request_timeout(seconds(5)));
    world.run(channel.queue("q").declare()).unwrap();
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    let late = world.run(channel.publish("", "q", "late").confirm()).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    let other = channel.clone();
    let waits = world.start(async move { other.publish("", "q", "in time").confirm().await });
    world.net.down(false);
    world.wait(&waits).unwrap();
    assert_eq!(world.server.broker.ready("q"), 1);

    let mut world = World::new();
    let recovery = Recovery::new().publishing(WhileLost::Fail);
    let (_connection, channel) = world.open_lasting(&recovering().recovery(recovery));
    world.server.wire.cut();
    world.settle();
    let error = world.run(channel.publish("", "q", "x").send()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Recovering);
}
