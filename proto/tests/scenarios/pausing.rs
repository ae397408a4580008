use hopmq_proto::method::{channel, connection};

use crate::common::Pair;

#[test]
fn a_blocked_connection_pauses_publishing_on_all_channels() {
    let mut pair = Pair::with_channel();
    pair.open_channel(2);
    pair.server.connection.answer(0, &connection::Blocked { reason: "low on memory" }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["blocked low on memory"]);
    assert!(!pair.client.connection.may_publish(1) && !pair.client.connection.may_publish(2));
    pair.server.connection.answer(0, &connection::Unblocked {}).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["unblocked"]);
    assert!(pair.client.connection.may_publish(1) && pair.client.connection.may_publish(2));
    pair.assert_healthy();
}

#[test]
fn channel_flow_pauses_publishing_on_one_channel() {
    let mut pair = Pair::with_channel();
    pair.open_channel(2);
    for active in [false, true] {
        pair.server.connection.answer(1, &channel::Flow { active }).unwrap();
        pair.flow();
        assert_eq!(pair.client.take(), [format!("1: flow {active}")]);
        assert_eq!(pair.server.take(), ["1: channel.flow-ok"]);
        assert_eq!(pair.client.connection.may_publish(1), active);
        assert!(pair.client.connection.may_publish(2));
    }
    pair.assert_healthy();
}

#[test]
fn a_client_may_pause_its_deliveries() {
    let mut pair = Pair::with_channel();
    pair.client.connection.request(1, &channel::Flow { active: false }, Some(1)).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["1: channel.flow"]);
    pair.server.connection.answer(1, &channel::FlowOk { active: false }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: reply 1 channel.flow-ok"]);
    pair.assert_healthy();
}
