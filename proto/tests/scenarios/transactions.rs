use hopmq_proto::method::{basic, tx};
use hopmq_proto::{Body, Properties};

use crate::common::Pair;

#[test]
fn a_channel_cannot_be_transactional_and_in_confirm_mode() {
    let mut pair = Pair::with_channel();
    pair.open_channel(2);
    pair.client.connection.tx_select(1, Some(1)).unwrap();
    assert!(pair.client.connection.confirm_select(1).is_err());
    pair.client.connection.confirm_select(2).unwrap();
    pair.client.connection.confirm_select(2).unwrap();
    assert!(pair.client.connection.tx_select(2, None).is_err());
    pair.flow();
    assert_eq!(pair.server.take(), ["1: tx.select", "2: confirm.select"]);
}

#[test]
fn a_rollback_makes_deliveries_unacked_that_were_settled_since_the_last_commit() {
    let mut pair = Pair::with_channel();
    pair.client.connection.tx_select(1, None).unwrap();
    let consume = basic::Consume { queue: "q", consumer_tag: "c", ..Default::default() };
    pair.client.connection.consume(1, &consume, 0, None).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &tx::SelectOk {}).unwrap();
    pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: "c" }).unwrap();
    for delivery_tag in 1..=200 {
        let deliver = basic::Deliver { consumer_tag: "c", delivery_tag, ..Default::default() };
        pair.server.connection.answer_content(1, &deliver, Properties::EMPTY, Body::Borrowed(b"")).unwrap();
    }
    pair.flow();
    let acked = |pair: &mut Pair, tag, multiple| pair.client.connection.ack(1, tag, multiple).is_ok();
    assert!(acked(&mut pair, 100, true) && acked(&mut pair, 150, false));
    assert!(!acked(&mut pair, 150, false), "a second ack fails within the transaction");
    pair.client.connection.request(1, &tx::Commit {}, None).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &tx::CommitOk {}).unwrap();
    pair.flow();
    assert_eq!(pair.client.connection.unacked(1), 99);
    assert!(acked(&mut pair, 110, true) && acked(&mut pair, 200, false));
    pair.client.connection.request(1, &tx::Rollback {}, None).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &tx::RollbackOk {}).unwrap();
    pair.flow();
    assert_eq!(pair.client.connection.unacked(1), 99);
    assert!(!acked(&mut pair, 100, false) && !acked(&mut pair, 150, false), "committed acks stay settled");
    assert!(acked(&mut pair, 101, false) && acked(&mut pair, 200, true));
    pair.assert_healthy();
}
