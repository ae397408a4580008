use hopmq_proto::method::{MethodId, connection};
use hopmq_proto::{CloseReason, Config, Connection, Event, FieldTable, HandshakeStage, Role, Violation};

use crate::common::{Pair, Script, server_config, start, start_ok, wire};

#[test]
fn both_ends_go_through_every_stage() {
    let mut pair = Pair::new(Config { vhost: "orders".to_owned(), ..Config::default() }, server_config());
    let stages = |pair: &Pair| (pair.client.connection.handshake_stage(), pair.server.connection.handshake_stage());
    assert_eq!(stages(&pair), (Some(HandshakeStage::Start), Some(HandshakeStage::ProtocolHeader)));
    pair.flow();
    assert_eq!(stages(&pair), (Some(HandshakeStage::Credentials), Some(HandshakeStage::StartOk)));
    assert_eq!(pair.client.take(), ["start PLAIN EXTERNAL"]);
    pair.client.connection.start_ok(&FieldTable::new().with("product", "x"), "PLAIN", b"\0a\0b").unwrap();
    pair.flow();
    assert_eq!(stages(&pair), (Some(HandshakeStage::Login), Some(HandshakeStage::Decision)));
    assert_eq!(pair.server.take(), ["start-ok PLAIN \\x00a\\x00b"]);
    pair.server.connection.tune().unwrap();
    pair.flow();
    assert_eq!(stages(&pair), (Some(HandshakeStage::OpenOk), Some(HandshakeStage::Decision)));
    assert_eq!(pair.server.take(), ["open orders"]);
    assert_eq!(pair.client.take(), [""; 0]);
    pair.server.connection.open_ok().unwrap();
    pair.flow();
    assert_eq!(stages(&pair), (None, None));
    assert_eq!(pair.client.take(), ["opened"]);
    assert_eq!(pair.client.connection.tuning(), pair.server.connection.tuning());
    pair.assert_healthy();
}

#[test]
fn a_handshake_works_byte_by_byte() {
    let mut pair = Pair::new(Config::default(), server_config()).sliced(1, 0).opened();
    pair.open_channel(1);
    pair.assert_healthy();
}

#[test]
fn a_sasl_mechanism_may_send_several_challenges() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.flow();
    pair.client.connection.start_ok(&FieldTable::new(), "CR", b"me").unwrap();
    pair.flow();
    pair.server.take();
    pair.client.take();
    for round in ["one", "two", "three"] {
        pair.server.connection.secure(round.as_bytes()).unwrap();
        pair.flow();
        assert_eq!(pair.client.take(), [format!("secure {round}")]);
        pair.client.connection.secure_ok(&[round.as_bytes(), b"!"].concat()).unwrap();
        pair.flow();
        assert_eq!(pair.server.take(), [format!("secure-ok {round}!")]);
    }
    pair.server.connection.tune().unwrap();
    pair.flow();
    pair.server.connection.open_ok().unwrap();
    pair.flow();
    pair.assert_healthy();
}

#[test]
fn handshake_calls_out_of_order_are_the_callers_fault() {
    let mut pair = Pair::new(Config::default(), server_config());
    let table = FieldTable::new();
    let wrong = |connection: &mut Connection| {
        [
            connection.secure_ok(b"").is_err(),
            connection.secure(b"").is_err(),
            connection.tune().is_err(),
            connection.open_ok().is_err(),
            connection.open_channel(1, 1).is_err(),
        ]
    };
    assert_eq!(wrong(&mut pair.client.connection), [true; 5]);
    assert_eq!(wrong(&mut pair.server.connection), [true; 5]);
    let error = pair.client.connection.start_ok(&table, "PLAIN", b"").unwrap_err();
    assert_eq!(error.violation(), Violation::HandshakeOrder);
    let text = "client handshake step called out of order; wait for the matching event";
    assert_eq!(error.message(), text);
    let pair = pair.opened();
    pair.assert_healthy();
}

#[test]
fn a_refused_client_with_the_capability_receives_the_reason() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.flow();
    let capabilities = FieldTable::new().with("authentication_failure_close", true);
    let properties = FieldTable::new().with("capabilities", &capabilities);
    pair.client.connection.start_ok(&properties, "PLAIN", b"\0me\0wrong").unwrap();
    pair.flow();
    let Some(Event::StartOk { client_properties, .. }) = pair.server.events.pop() else { panic!("no start-ok") };
    assert!(Connection::has_capability(&client_properties, "authentication_failure_close"));
    assert!(!Connection::has_capability(&client_properties, "connection.blocked"));
    pair.client.take();
    let reason = CloseReason { code: 403, text: "ACCESS_REFUSED".to_owned(), method: MethodId::default() };
    pair.server.connection.refuse(&reason);
    pair.flow();
    assert_eq!(pair.client.take(), ["closed 403 ACCESS_REFUSED"]);
    assert_eq!(pair.server.take(), ["closed"]);
    assert!(pair.client.connection.is_closed() && pair.server.connection.is_closed());
}

#[test]
fn a_missing_virtual_host_is_refused_before_the_connection_is_open() {
    let mut pair = Pair::new(Config { vhost: "nowhere".to_owned(), ..Config::default() }, server_config());
    pair.flow();
    pair.client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0me\0me").unwrap();
    pair.flow();
    pair.server.connection.tune().unwrap();
    pair.flow();
    pair.client.take();
    let text = "vhost nowhere not found".to_owned();
    pair.server.connection.refuse(&CloseReason { code: 530, text, method: MethodId::CONNECTION_OPEN });
    pair.flow();
    assert_eq!(pair.client.take(), ["closed 530 vhost nowhere not found"]);
    assert!(pair.client.connection.is_closed() && pair.server.connection.is_closed());
}

#[test]
fn a_client_may_close_during_the_handshake() {
    let mut script = Script::client();
    script.send(&start());
    script.peer.connection.close(200, "cancelled");
    assert_eq!(script.output(), ["0 connection.close"]);
    script.send(&wire::method(0, &connection::Tune { channel_max: 1, frame_max: 4096, heartbeat: 0 }));
    script.send(&wire::method(0, &connection::CloseOk {}));
    assert_eq!(script.peer.take(), ["start PLAIN", "closed"]);
    assert!(script.peer.connection.is_closed());
}

#[test]
fn a_server_sends_nothing_after_a_refusal() {
    let mut script = Script::new(Role::Server, server_config());
    script.send(b"AMQP\0\0\x09\x01").send(&wire::method(0, &start_ok()));
    script.peer.connection.refuse(&CloseReason { code: 403, text: String::new(), method: MethodId::default() });
    script.output();
    script.peer.connection.refuse(&CloseReason { code: 320, text: String::new(), method: MethodId::default() });
    assert!(script.peer.connection.tune().is_err());
    assert_eq!(script.output(), [""; 0]);
    script.send(&wire::method(0, &connection::CloseOk {}));
    assert!(script.peer.connection.is_closed());
}
