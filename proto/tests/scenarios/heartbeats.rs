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
    pair.assert_healthy();
}

#[test]
fn a_heartbeat_is_sent_after_half_an_idle_interval() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.advance(SECOND * 5 - Duration::from_millis(1));
    assert_eq!(script.output(), [""; 0]);
    script.advance(Duration::from_millis(1));
    assert_eq!(script.output(), ["heartbeat"]);
    script.send(&wire::heartbeat());
    script.advance(SECOND * 15);
    assert_eq!(script.output(), ["heartbeat"; 3]);
}

#[test]
fn any_output_replaces_a_heartbeat() {
    let mut script = Script::client().tuned(10, 4096, 10);
    for _ in 0..10 {
        script.advance(SECOND * 4);
        script.peer.connection.open_channel(script.peer.connection.free_channel().unwrap(), 1).unwrap();
        script.send(&wire::heartbeat());
        assert_eq!(script.output().len(), 1, "a request without a heartbeat");
    }
}

#[test]
fn a_silent_peer_counts_as_dead_after_two_intervals() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.advance(SECOND * 3);
    script.send(&wire::heartbeat());
    script.advance(SECOND * 20 - Duration::from_millis(1));
    assert_eq!(script.peer.error, None);
    script.advance(Duration::from_millis(1));
    assert_eq!(script.peer.code(), Some(320));
    assert!(script.peer.connection.is_closed());
    assert_eq!(script.peer.connection.poll_timeout(), None);
}

#[test]
fn a_part_of_a_frame_proves_that_the_peer_is_alive() {
    let mut script = Script::client().tuned(10, 131_072, 10);
    for byte in wire::frame(3, 1, &[0; 20]).iter().take(20) {
        script.send(&[*byte]).advance(SECOND * 19);
    }
    assert_eq!(script.peer.error, None);
    script.advance(SECOND);
    assert_eq!(script.peer.code(), Some(320));
}

#[test]
fn unread_bytes_prove_that_the_peer_is_alive() {
    let mut script = Script::client().tuned(10, 4096, 10);
    for _ in 0..10 {
        script.advance(SECOND * 19);
        script.peer.connection.received(script.now);
    }
    assert_eq!(script.peer.error, None);
}

#[test]
fn no_timer_runs_without_heartbeats() {
    let mut pair = Pair::with_channel();
    assert_eq!(pair.client.connection.poll_timeout(), None);
    pair.advance(SECOND * 1_000_000);
    pair.client.connection.handle_timeout(pair.now).unwrap();
    assert_eq!(pair.client.connection.queued(), 0);
    pair.assert_healthy();
}

#[test]
fn no_timer_runs_before_the_connection_is_open() {
    let mut script = Script::client_started();
    assert_eq!(script.peer.connection.poll_timeout(), None);
    script.advance(SECOND * 1000);
    script.output();
    assert_eq!(script.peer.error, None);
}

#[test]
fn a_silent_peer_is_detected_while_the_connection_closes() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.peer.connection.close(200, "");
    script.advance(SECOND * 20);
    assert_eq!(script.peer.code(), Some(320));
}

#[test]
fn the_timer_does_not_spin_while_the_transport_is_full() {
    let mut script = Script::client().tuned(10, 4096, 10);
    let mut now = Time::ZERO;
    let end = Time::ZERO + SECOND * 60;
    let mut rounds = 0;
    // The driver does not call `poll_transmit`, because the transport is full; bytes still arrive.
    while let Some(moment) = script.peer.connection.poll_timeout().filter(|moment| *moment < end) {
        now = now.max(moment);
        script.peer.connection.received(now);
        script.peer.connection.handle_timeout(now).unwrap();
        rounds += 1;
        assert!(rounds <= 20, "the timer spins at {now:?}");
    }
    assert_eq!(script.output(), ["heartbeat"], "one waiting heartbeat is enough");
}

#[test]
fn no_heartbeat_is_queued_behind_other_frames() {
    let mut script = Script::client().tuned(10, 4096, 10);
    script.peer.connection.open_channel(1, 1).unwrap();
    let queued = script.peer.connection.queued();
    for seconds in 1..19 {
        script.peer.connection.handle_timeout(Time::ZERO + SECOND * seconds).unwrap();
    }
    assert_eq!(script.peer.connection.queued(), queued);
    assert!(script.peer.connection.request(1, &basic::Qos::default(), None).is_ok());
}
