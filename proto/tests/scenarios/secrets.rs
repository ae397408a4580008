//! Debug output never shows passwords and tokens.

use hopmq_proto::method::{Encode, Method, connection};
use hopmq_proto::{Config, FieldTable, Role, Transmit};

use crate::common::{Pair, Peer, server_config};

const SECRET: &str = "hunter2";

/// Returns whether debug output shows the secret, as text or as a list of numbers.
fn shows(debug: &str) -> bool {
    let numbers = SECRET.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>();
    debug.contains(SECRET) || debug.contains(&numbers.join(", ")) || debug.contains(&numbers.join(",\n"))
}

#[test]
fn no_debug_output_shows_a_password() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.flow();
    pair.client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0me\0hunter2").unwrap();
    assert!(!shows(&format!("{:?}", pair.client.connection)));
    let mut transmit = Transmit::new();
    pair.client.connection.poll_transmit(pair.now, &mut transmit);
    assert!(!shows(&format!("{transmit:?}")));
    let mut server = Peer::new(Role::Server, server_config());
    server.feed(pair.now, b"AMQP\0\0\x09\x01");
    let bytes = transmit.chunk().to_vec();
    let (last, rest) = bytes.split_last().unwrap();
    server.feed(pair.now, rest);
    assert!(!shows(&format!("{:?}", server.receiver)), "before the frame is complete");
    server.receiver.space()[0] = *last;
    server.receiver.filled(1);
    let incoming = server.receiver.poll().unwrap().unwrap();
    assert!(!shows(&format!("{incoming:?}")));
    assert!(!shows(&format!("{:?}", server.receiver)), "after the frame was consumed");
    let event = server.connection.handle(pair.now, incoming).unwrap().unwrap();
    assert!(!shows(&format!("{event:?}")));
    assert!(format!("{event:?}").contains("PLAIN"));
    server.connection.secure(b"").unwrap();
    let mut payload = Vec::new();
    connection::SecureOk { response: SECRET.as_bytes() }.encode(&mut payload).unwrap();
    assert!(!shows(&format!("{:?}", Method::decode(&payload).unwrap())));
}

#[test]
fn no_debug_output_shows_a_new_secret() {
    let mut pair = Pair::open();
    let update = connection::UpdateSecret { new_secret: SECRET.as_bytes(), reason: "expired" };
    pair.client.connection.request(0, &update, Some(1)).unwrap();
    assert!(!shows(&format!("{:?}", pair.client.connection)));
    pair.flow();
    let event = pair.server.events.pop().unwrap();
    assert!(!shows(&format!("{event:?}")));
    assert!(format!("{event:?}").contains("connection.update-secret"));
}

#[test]
fn no_debug_output_shows_the_response_to_a_challenge() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.flow();
    pair.client.connection.start_ok(&FieldTable::new(), "CR", b"me").unwrap();
    pair.flow();
    pair.server.connection.secure(b"?").unwrap();
    pair.flow();
    pair.client.connection.secure_ok(SECRET.as_bytes()).unwrap();
    pair.flow();
    assert!(!shows(&format!("{:?}", pair.server.events)));
}
