use hopmq_proto::method::{basic, channel, confirm, connection, exchange, queue, tx};
use hopmq_proto::{Fault, FieldTable};

use crate::common::{Pair, Script, wire};

#[test]
fn replies_arrive_in_the_order_of_the_requests() {
    let mut pair = Pair::with_channel();
    let arguments = FieldTable::new().with("x-max-length", 5);
    macro_rules! round_trips {
        ($($key:literal $request:expr => $answer:expr, $name:literal;)*) => {
            $(pair.client.connection.request(1, &$request, Some($key)).unwrap();)*
            pair.flow();
            assert_eq!(pair.server.take(), [$(concat!("1: ", $name)),*]);
            $(pair.server.connection.answer(1, &$answer).unwrap();)*
            pair.flow();
            assert_eq!(pair.client.take(), [$(concat!("1: reply ", $key, " ", $name, "-ok")),*]);
        };
    }
    round_trips! {
        1 exchange::Declare { exchange: "e", kind: "topic", durable: true, ..Default::default() }
            => exchange::DeclareOk {}, "exchange.declare";
        2 queue::Declare { queue: "q", arguments: arguments.as_ref_table(), ..Default::default() }
            => queue::DeclareOk { queue: "q", message_count: 7, consumer_count: 1 }, "queue.declare";
        3 queue::Bind { queue: "q", exchange: "e", routing_key: "#", ..Default::default() }
            => queue::BindOk {}, "queue.bind";
        4 exchange::Bind { destination: "e", source: "amq.topic", ..Default::default() }
            => exchange::BindOk {}, "exchange.bind";
        5 exchange::Unbind { destination: "e", source: "amq.topic", ..Default::default() }
            => exchange::UnbindOk {}, "exchange.unbind";
        6 queue::Unbind { queue: "q", exchange: "e", routing_key: "#", ..Default::default() }
            => queue::UnbindOk {}, "queue.unbind";
        7 basic::Qos { prefetch_count: 10, global: false } => basic::QosOk {}, "basic.qos";
        8 queue::Purge { queue: "q", nowait: false } => queue::PurgeOk { message_count: 7 }, "queue.purge";
        9 queue::Delete { queue: "q", ..Default::default() } => queue::DeleteOk { message_count: 0 }, "queue.delete";
        10 exchange::Delete { exchange: "e", ..Default::default() } => exchange::DeleteOk {}, "exchange.delete";
        11 basic::Recover { requeue: true } => basic::RecoverOk {}, "basic.recover";
    }
    pair.assert_healthy();
}

#[test]
fn an_ignored_reply_keeps_the_other_replies_in_order() {
    let mut pair = Pair::with_channel();
    pair.client.connection.request(1, &queue::Purge::default(), None).unwrap();
    pair.client.connection.request(1, &queue::Declare::default(), Some(2)).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &queue::PurgeOk::default()).unwrap();
    pair.server.connection.answer(1, &queue::DeclareOk::default()).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: reply 2 queue.declare-ok"]);
    pair.assert_healthy();
}

#[test]
fn update_secret_is_a_request_on_channel_0() {
    let mut pair = Pair::open();
    let update = connection::UpdateSecret { new_secret: b"token", reason: "expired" };
    pair.client.connection.request(0, &update, Some(1)).unwrap();
    pair.client.connection.request(0, &update, None).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["0: connection.update-secret"; 2]);
    pair.server.connection.answer(0, &connection::UpdateSecretOk {}).unwrap();
    pair.server.connection.answer(0, &connection::UpdateSecretOk {}).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["0: reply 1 connection.update-secret-ok"]);
    pair.assert_healthy();
}

#[test]
fn methods_that_are_not_requests_are_refused() {
    let mut pair = Pair::with_channel();
    let client = &mut pair.client.connection;
    let errors = [
        // These have no reply.
        client.request(1, &basic::Ack { delivery_tag: 1, multiple: false }, Some(1)),
        client.request(1, &basic::RecoverAsync { requeue: true }, Some(1)),
        client.request(1, &queue::PurgeOk::default(), Some(1)),
        // These would have no reply, so the next reply would be mistaken for theirs.
        client.request(1, &queue::Declare { nowait: true, ..Default::default() }, Some(1)),
        client.request(1, &queue::Delete { nowait: true, ..Default::default() }, None),
        client.request(1, &exchange::Declare { nowait: true, ..Default::default() }, None),
        client.request(1, &confirm::Select { nowait: true }, None),
        client.consume(1, &basic::Consume { consumer_tag: "c", nowait: true, ..Default::default() }, 1, None),
        // These have dedicated calls, which keep the state of the channel.
        client.request(1, &channel::Close::default(), Some(1)),
        client.request(2, &channel::Open {}, Some(1)),
        client.request(1, &basic::Consume { consumer_tag: "c", ..Default::default() }, Some(1)),
        client.request(1, &basic::Cancel::default(), Some(1)),
        client.request(1, &basic::Get::default(), Some(1)),
        client.request(1, &confirm::Select::default(), Some(1)),
        client.request(1, &tx::Select {}, Some(1)),
        client.request(0, &connection::Close::default(), Some(1)),
        client.request(0, &connection::Open { virtual_host: "/" }, Some(1)),
        // These are on the wrong channel.
        client.request(0, &queue::Purge::default(), Some(1)),
        client.request(1, &connection::UpdateSecret::default(), Some(1)),
        client.request(2, &queue::Purge::default(), Some(1)),
        // Only a server may send this.
        client.request(0, &connection::Tune::default(), Some(1)),
        // These are too large.
        client.request(1, &queue::Purge { queue: &"q".repeat(256), nowait: false }, Some(1)),
        client.request(
            1,
            &queue::Declare {
                arguments: FieldTable::new().with("x", "y".repeat(200_000)).as_ref_table(),
                ..Default::default()
            },
            Some(1),
        ),
    ];
    for (index, error) in errors.into_iter().enumerate() {
        let error = error.expect_err(&format!("case {index} is not a request"));
        assert_eq!(error.fault(), Fault::Caller, "case {index}");
    }
    assert_eq!(client.queued(), 0);
    pair.client.connection.tx_select(1, Some(9)).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &tx::SelectOk {}).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: reply 9 tx.select-ok"]);
    pair.assert_healthy();
}

#[test]
fn too_many_requests_are_refused_before_anything_is_sent() {
    let mut script = Script::client_channel();
    for _ in 0..65_536 {
        script.peer.connection.request(1, &queue::Purge::default(), None).unwrap();
    }
    let queued = script.peer.connection.queued();
    let error = script.peer.connection.request(1, &queue::Purge::default(), Some(1)).unwrap_err();
    assert_eq!(error.fault(), Fault::Caller);
    assert_eq!(script.peer.connection.queued(), queued);
    for number in [0, 1] {
        let sent = (0..70_000).take_while(|_| match number {
            0 => script.peer.connection.request(0, &connection::UpdateSecret::default(), None).is_ok(),
            _ => script.peer.connection.get(1, &basic::Get::default(), None).is_ok(),
        });
        assert_eq!(sent.count(), if number == 0 { 65_536 } else { 0 });
    }
    // A channel can still be closed.
    script.peer.connection.close_channel(1, 200, "", Some(1)).unwrap();
    script.send(&wire::method(1, &channel::CloseOk {}));
    assert_eq!(script.peer.take(), ["1: reply 1 channel.close-ok"]);
}
