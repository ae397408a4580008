use std::time::Duration;

use hopmq_proto::method::basic;
use hopmq_proto::{Config, Time};

use crate::common::{Pair, Script, server_config, wire};

const SECOND: Duration = Duration::from_secs(1);

fn pair(seconds: u32) -> Pair {
    let heartbeat = Some(SECOND * seconds);
    Pair::new(Config { heartbeat, ..Config::default() }, Config { heartbeat, ..server_config() }).opened()
}

#[test]
fn two_idle_ends_keep_each_other_alive() {
    let mut pair = pair(10);
    pair.advance(3600 * SECOND);
    pair.assert_well();
}

#[test]
fn a_heartbeat_goes_after_half_an_interval_of_silence() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.advance(SECOND * 5 - Duration::from_millis(1));
    assert_eq!(script.heard(), [""; 0]);
    script.advance(Duration::from_millis(1));
    assert_eq!(script.heard(), ["heartbeat"]);
    script.say(&wire::heartbeat());
    script.advance(SECOND * 15);
    assert_eq!(script.heard(), ["heartbeat"; 3]);
}

#[test]
fn whatever_is_sent_is_a_sign_of_life() {
    let mut script = Script::client().tuned(10, 4096, 10);
    for _ in 0..10 {
        script.advance(SECOND * 4);
        script.peer.connection.open_channel(script.peer.connection.free_channel().unwrap(), 1).unwrap();
        script.say(&wire::heartbeat());
        assert_eq!(script.heard().len(), 1, "a request and no heartbeat");
    }
}

#[test]
fn a_silent_peer_is_dead_after_two_intervals() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.advance(SECOND * 3);
    script.say(&wire::heartbeat());
    script.advance(SECOND * 20 - Duration::from_millis(1));
    assert_eq!(script.peer.error, None);
    script.advance(Duration::from_millis(1));
    assert_eq!(script.peer.code(), Some(320));
    assert!(script.peer.connection.is_closed());
    assert_eq!(script.peer.connection.poll_timeout(), None);
}

#[test]
fn part_of_a_frame_is_a_sign_of_life() {
    let mut script = Script::client().tuned(10, 131_072, 10);
    for byte in wire::frame(3, 1, &[0; 20]).iter().take(20) {
        script.say(&[*byte]).advance(SECOND * 19);
    }
    assert_eq!(script.peer.error, None);
    script.advance(SECOND);
    assert_eq!(script.peer.code(), Some(320));
}

#[test]
fn bytes_that_the_user_leaves_unread_are_a_sign_of_life() {
    let mut script = Script::client().tuned(10, 4096, 10);
    for _ in 0..10 {
        script.advance(SECOND * 19);
        script.peer.connection.received(script.now);
    }
    assert_eq!(script.peer.error, None);
}

#[test]
fn nothing_happens_without_heartbeats() {
    let mut pair = Pair::with_channel();
    assert_eq!(pair.client.connection.poll_timeout(), None);
    pair.advance(SECOND * 1_000_000);
    pair.client.connection.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.client.connection.queued(), 0);
    pair.assert_well();
}

#[test]
fn nothing_happens_before_the_connection_is_open() {
    let mut script = Script::client_started();
    assert_eq!(script.peer.connection.poll_timeout(), None);
    script.advance(SECOND * 1000);
    script.heard();
    assert_eq!(script.peer.error, None);
}

#[test]
fn a_peer_that_dies_while_the_connection_closes_is_noticed() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.peer.connection.close(200, "");
    script.advance(SECOND * 20);
    assert_eq!(script.peer.code(), Some(320));
}

#[test]
fn a_transport_that_takes_nothing_makes_no_timer_spin() {
    let mut script = Script::client().tuned(10, 4096, 10);
    let mut now = Time::ZERO;
    let end = Time::ZERO + SECOND * 60;
    let mut rounds = 0;
    // Nobody calls `poll_transmit`, because the transport is full; bytes go on coming.
    while let Some(moment) = script.peer.connection.poll_timeout().filter(|moment| *moment < end) {
        now = now.max(moment);
        script.peer.connection.received(now);
        script.peer.connection.handle_timeout(now).unwrap();
        rounds += 1;
        assert!(rounds <= 20, "a timer that spins at {now:?}");
    }
    assert_eq!(script.heard(), ["heartbeat"], "one that waits is enough");
}

#[test]
fn heartbeats_fill_no_buffer_behind_other_frames() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.peer.connection.open_channel(1, 1).unwrap();
    let queued = script.peer.connection.queued();
    for seconds in 1..19 {
        script.peer.connection.handle_timeout(Time::ZERO + SECOND * seconds).unwrap();
    }
    assert_eq!(script.peer.connection.queued(), queued);
    assert!(script.peer.connection.request(1, &basic::Qos::default(), None).is_ok());
}
