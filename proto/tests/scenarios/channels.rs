use hopmq_proto::method::{MethodId, channel, queue};
use hopmq_proto::{Config, Fault};

use crate::common::{Pair, Script, server_config, wire};

#[test]
fn a_channel_opens_and_closes_and_its_number_is_reused() {
    let mut pair = Pair::open();
    for _ in 0..3 {
        assert_eq!(pair.client.connection.free_channel(), Some(1));
        pair.open_channel(1);
        assert_eq!(pair.client.connection.free_channel(), Some(2));
        pair.close_channel(1);
        assert_eq!(pair.server.take(), ["1: closed 200 bye"]);
    }
    pair.assert_healthy();
}

#[test]
fn channel_numbers_run_out_until_a_channel_closes() {
    let mut pair = Pair::new(Config { channel_max: 3, ..Config::default() }, server_config()).opened();
    for number in 1..=3 {
        assert_eq!(pair.client.connection.free_channel(), Some(number));
        pair.open_channel(number);
    }
    assert_eq!(pair.client.connection.free_channel(), None);
    for number in [0, 1, 4, u16::MAX] {
        let error = pair.client.connection.open_channel(number, 1).unwrap_err();
        assert_eq!(error.fault(), Fault::Caller);
    }
    pair.close_channel(2);
    pair.server.take();
    assert_eq!(pair.client.connection.free_channel(), Some(2));
    pair.open_channel(2);
    pair.assert_healthy();
}

#[test]
fn requests_may_follow_channel_open_immediately() {
    let mut pair = Pair::open();
    pair.client.connection.open_channel(5, 1).unwrap();
    pair.client.connection.request(5, &queue::Declare { queue: "q", ..Default::default() }, Some(2)).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["5: opened", "5: queue.declare"]);
    pair.server.connection.answer(5, &queue::DeclareOk { queue: "q", ..Default::default() }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["5: reply 1 channel.open-ok", "5: reply 2 queue.declare-ok"]);
    pair.assert_healthy();
}

#[test]
fn a_number_is_not_free_while_its_channel_closes() {
    let mut pair = Pair::with_channel();
    pair.client.connection.close_channel(1, 200, "", None).unwrap();
    assert_eq!(pair.client.connection.free_channel(), Some(2));
    assert!(pair.client.connection.open_channel(1, 1).is_err());
    assert!(pair.client.connection.close_channel(1, 200, "", None).is_err());
    assert!(pair.client.connection.request(1, &queue::Purge::default(), None).is_err());
    pair.flow();
    assert_eq!(pair.client.connection.free_channel(), Some(1));
    pair.assert_healthy();
}

#[test]
fn both_ends_may_close_a_channel_at_once() {
    let mut pair = Pair::with_channel();
    pair.client.connection.close_channel(1, 200, "", Some(7)).unwrap();
    pair.refuse_channel(1, 404, "no queue");
    pair.flow();
    assert_eq!(pair.client.take(), ["1: reply 7 channel.close-ok"]);
    pair.open_channel(1);
    pair.assert_healthy();
}

#[test]
fn a_channel_error_leaves_the_connection_and_the_other_channels_alone() {
    let mut pair = Pair::with_channel();
    pair.open_channel(2);
    let declare = queue::Declare { queue: "missing", passive: true, ..Default::default() };
    pair.client.connection.request(1, &declare, Some(1)).unwrap();
    pair.client.connection.request(1, &declare, Some(2)).unwrap();
    pair.client.connection.request(2, &queue::Purge::default(), Some(3)).unwrap();
    pair.client_writes();
    assert_eq!(pair.server.take(), ["1: queue.declare", "1: queue.declare", "2: queue.purge"]);
    pair.refuse_channel(1, 404, "NOT_FOUND - no queue 'missing'");
    pair.server.connection.answer(2, &queue::PurgeOk::default()).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: closed 404 NOT_FOUND - no queue 'missing'", "2: reply 3 queue.purge-ok"]);
    pair.open_channel(1);
    pair.assert_healthy();
}

#[test]
fn requests_in_transit_to_a_refused_channel_are_dropped() {
    let mut pair = Pair::with_channel();
    pair.refuse_channel(1, 404, "gone");
    pair.client.connection.request(1, &queue::Purge::default(), Some(1)).unwrap();
    pair.client_writes();
    assert_eq!(pair.server.take(), [""; 0]);
    assert!(pair.server.connection.answer(1, &queue::PurgeOk::default()).is_err());
    pair.flow();
    assert_eq!(pair.client.take(), ["1: closed 404 gone"]);
    pair.assert_healthy();
}

#[test]
fn the_reason_of_a_channel_close_is_truncated_to_255_bytes() {
    let mut pair = Pair::with_channel();
    pair.refuse_channel(1, 406, &"ä".repeat(200));
    pair.flow();
    assert_eq!(pair.client.take(), [format!("1: closed 406 {}", "ä".repeat(127))]);
    pair.assert_healthy();
}

#[test]
fn replies_that_cross_a_close_are_dropped() {
    let mut script = Script::client_channel();
    script.peer.connection.request(1, &queue::Purge::default(), Some(1)).unwrap();
    script.peer.connection.close_channel(1, 200, "", Some(2)).unwrap();
    script.send(&wire::method(1, &queue::PurgeOk::default()));
    script.send(&wire::content(1, &hopmq_proto::method::basic::Deliver::default(), b"late", 100));
    script.send(&wire::method(1, &channel::CloseOk {}));
    assert_eq!(script.peer.take(), ["1: reply 2 channel.close-ok"]);
    assert_eq!(script.output(), ["1 queue.purge", "1 channel.close"]);
    assert_eq!(script.peer.error, None);
}

#[test]
fn the_reason_of_a_close_names_the_method_at_fault() {
    let mut script = Script::client_channel();
    script.send(&wire::method(1, &channel::Close { reply_code: 406, reply_text: "no", class_id: 50, method_id: 10 }));
    let Some(hopmq_proto::Event::ChannelClosed { reason, .. }) = script.peer.events.pop() else { panic!("no close") };
    assert_eq!(reason.method, MethodId::QUEUE_DECLARE);
    assert_eq!(script.output(), ["1 channel.close-ok"]);
}
