//! Invariants of both ends for any input. `properties.rs` calls them with random bytes, the fuzz targets with theirs.

use std::time::Duration;

use hopmq_proto::method::{MethodId, basic, channel, confirm, queue};
use hopmq_proto::{Body, CloseReason, Fault, PROTOCOL_HEADER, Properties, Route};

use super::{Model, Random, Script, start, start_ok, wire};

/// A client receives the bytes. The first byte chooses the stage of the connection.
pub fn client_bytes(input: &[u8]) {
    let Some((&stage, input)) = input.split_first() else { return };
    every_slicing_has_the_same_outcome(|| client(stage % 4), stage, input);
}

/// A server receives the bytes. The first byte chooses the stage of the connection.
pub fn server_bytes(input: &[u8]) {
    let Some((&stage, input)) = input.split_first() else { return };
    every_slicing_has_the_same_outcome(|| server(stage % 4), stage, input);
}

/// Both ends and a naive model carry out the operations that the bytes encode.
pub fn operations(input: &[u8]) {
    Model::new().run(input);
}

fn client(stage: u8) -> Script {
    match stage {
        0 => Script::client(),
        1 => Script::client_started(),
        2 => Script::client_channel(),
        _ => busy_client(),
    }
}

/// A client with pending requests of all kinds on channel 1, and a closing channel 2.
pub fn busy_client() -> Script {
    let mut script = Script::client_channel();
    let connection = &mut script.peer.connection;
    connection.open_channel(2, 2).expect("a free channel");
    connection.close_channel(2, 200, "", Some(3)).expect("an open channel");
    connection.confirm_select(1).expect("a channel without a mode");
    let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
    connection.consume(1, &consume, 5, Some(6)).expect("a free tag");
    let route = Route { exchange: "", routing_key: "q", mandatory: true };
    for _ in 0..5 {
        connection.publish(1, route, Properties::EMPTY, Body::Borrowed(b"m")).expect("an open channel");
    }
    connection.get(1, &basic::Get::default(), Some(7)).expect("an open channel");
    connection.request(1, &queue::Purge::default(), None).expect("an open channel");
    connection.request(1, &basic::Recover { requeue: true }, Some(8)).expect("an open channel");
    script.send(&wire::method(1, &confirm::SelectOk {}));
    script.send(&wire::method(1, &basic::ConsumeOk { consumer_tag: "c" }));
    script.peer.events.clear();
    script.output();
    script
}

fn server(stage: u8) -> Script {
    match stage {
        0 => Script::server(),
        1 => Script::server_tuning(),
        2 => Script::server_channel(),
        _ => {
            let mut script = Script::server_channel();
            script.send(&wire::method(2, &channel::Open {}));
            let reason = CloseReason { code: 404, text: String::new(), method: MethodId::default() };
            script.peer.connection.refuse_channel(2, &reason).expect("an open channel");
            script.peer.events.clear();
            script.output();
            script
        }
    }
}

/// Returns the bytes unchanged, or as well-formed frames, which get further.
pub fn shaped(stage: u8, input: &[u8]) -> Vec<u8> {
    if stage & 4 == 0 {
        return input.to_vec();
    }
    let mut bytes = Vec::new();
    let mut rest = input;
    while let [kind, channel, size, tail @ ..] = rest {
        let (payload, tail) = tail.split_at(usize::from(*size).min(tail.len()));
        let kind = if *kind < 200 { 1 + kind % 3 } else { *kind };
        bytes.extend(wire::frame(kind, u16::from(channel % 4), payload));
        rest = tail;
    }
    bytes
}

fn every_slicing_has_the_same_outcome(make: impl Fn() -> Script, stage: u8, input: &[u8]) {
    let bytes = shaped(stage, input);
    let whole = outcome(make(), &bytes, u64::MAX, 0);
    for step in [1, 9, 100] {
        assert_eq!(outcome(make(), &bytes, step, stage.into()), whole, "in pieces of at most {step}");
    }
}

/// Events, error code, and the frames of the output.
type Outcome = (Vec<String>, Option<u16>, Vec<String>);

/// Sends `bytes` in pieces, and checks the invariants for any input.
pub fn outcome(mut script: Script, mut bytes: &[u8], step: u64, seed: u64) -> Outcome {
    let mut random = Random(seed);
    let total = bytes.len();
    while !bytes.is_empty() {
        let count = usize::try_from(random.below(step)).unwrap_or(usize::MAX).saturating_add(1).min(bytes.len());
        let count = if step == u64::MAX { bytes.len() } else { count };
        script.send(&bytes[..count]);
        bytes = &bytes[count..];
    }
    assert!(script.peer.events.len() <= total / 8 + 1, "more events than frames");
    let events = script.peer.take();
    let written = script.output_bytes();
    assert!(written.len() <= 400 * (total + 1), "the output is too large for the input");
    let written = written.strip_prefix(&PROTOCOL_HEADER).unwrap_or(&written);
    let written = wire::briefs(written);
    if let Some(error) = &script.peer.error {
        assert_eq!(error.fault(), Fault::Peer, "{error}");
        assert!((311..=541).contains(&error.code()), "{error}");
        assert!(script.peer.connection.is_closed());
    }
    let code = script.peer.code();
    script.advance(Duration::from_secs(1000));
    (events, code, written)
}

/// A transcript without errors, as sent to a [`busy_client`].
pub fn transcript_to_client() -> Vec<Vec<u8>> {
    let deliver = |tag| basic::Deliver {
        consumer_tag: "c",
        delivery_tag: tag,
        exchange: "e",
        routing_key: "k",
        redelivered: false,
    };
    let get_ok = basic::GetOk { delivery_tag: 3, message_count: 9, ..Default::default() };
    let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "", routing_key: "q" };
    vec![
        wire::method(2, &channel::OpenOk {}),
        wire::content(1, &deliver(1), b"one", 100),
        wire::method(1, &basic::Ack { delivery_tag: 2, multiple: true }),
        wire::content(1, &returned, b"m", 100),
        wire::content(1, &deliver(2), &[7; 300], 100),
        wire::heartbeat(),
        wire::content(1, &get_ok, b"got", 2),
        wire::method(1, &queue::PurgeOk { message_count: 1 }),
        wire::method(1, &basic::RecoverOk {}),
        wire::method(2, &channel::CloseOk {}),
        wire::content(1, &deliver(4), b"", 100),
        wire::method(1, &basic::Nack { delivery_tag: 4, multiple: false, requeue: false }),
        wire::method(1, &channel::Flow { active: false }),
        wire::method(0, &hopmq_proto::method::connection::Blocked { reason: "memory" }),
        wire::method(1, &basic::Cancel { consumer_tag: "c", nowait: false }),
        wire::method(1, &channel::Close { reply_code: 404, reply_text: "gone", class_id: 50, method_id: 10 }),
        wire::method(0, &hopmq_proto::method::connection::Close { reply_code: 320, ..Default::default() }),
    ]
}

/// A handshake without errors, as sent to a server.
pub fn transcript_to_server() -> Vec<Vec<u8>> {
    use hopmq_proto::method::connection;
    vec![PROTOCOL_HEADER.to_vec(), wire::method(0, &start_ok())]
        .into_iter()
        .chain([
            wire::method(0, &connection::TuneOk { channel_max: 10, frame_max: 4096, heartbeat: 0 }),
            wire::method(0, &connection::Open { virtual_host: "/" }),
        ])
        .collect()
}

/// A transcript without errors, as sent to a server with channel 1 open.
pub fn transcript_to_open_server() -> Vec<Vec<u8>> {
    use hopmq_proto::method::connection;
    vec![
        wire::method(3, &channel::Open {}),
        wire::method(1, &queue::Declare { queue: "q", ..Default::default() }),
        wire::content(1, &basic::Publish { routing_key: "q", ..Default::default() }, b"one", 100),
        wire::content(3, &basic::Publish { routing_key: "q", ..Default::default() }, &[7; 300], 100),
        wire::heartbeat(),
        wire::method(1, &basic::Consume { queue: "q", consumer_tag: "c", ..Default::default() }),
        wire::method(1, &basic::Ack { delivery_tag: 1, multiple: false }),
        wire::method(1, &channel::Close { reply_code: 200, ..Default::default() }),
        wire::method(0, &connection::Close { reply_code: 200, ..Default::default() }),
    ]
}

/// The start of a handshake, as sent to a client, and a method that is too early.
pub fn transcript_to_new_client() -> Vec<Vec<u8>> {
    vec![start(), wire::method(0, &hopmq_proto::method::connection::Blocked { reason: "too early" })]
}
