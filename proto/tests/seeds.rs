//! The seed inputs of the fuzz targets in `fuzz/seeds`, made from valid sessions.
//!
//! Every target must accept its seeds, and the stored files must match this code. `UPDATE_SEEDS=1 cargo test -p
//! hopmq-proto --test seeds` writes them.

#[allow(dead_code)]
mod bodies;
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{robust, start, start_ok, wire};
use hopmq_proto::method::{basic, channel, connection, exchange, queue};
use hopmq_proto::{FieldArray, FieldTable, Properties, Value};

/// A fuzz target: its name, its body, and its seeds by name.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: BTreeMap<&'static str, Vec<u8>>,
}

fn targets() -> [Target; 6] {
    [
        Target { name: "method", run: bodies::method, seeds: methods() },
        Target { name: "table", run: bodies::table, seeds: tables() },
        Target { name: "properties", run: bodies::properties, seeds: properties() },
        Target { name: "client_bytes", run: robust::client_bytes, seeds: client_bytes() },
        Target { name: "server_bytes", run: robust::server_bytes, seeds: server_bytes() },
        Target { name: "operations", run: robust::operations, seeds: operations() },
    ]
}

/// A table with a value of each type.
fn table() -> FieldTable {
    let inner = FieldTable::from([("l", 1_i64), ("n", -1)]);
    let list = FieldArray::new().with("a").with(&inner).with(()).with(2.5);
    let mut table = FieldTable::new();
    table.insert("capabilities", &inner).insert("list", &list).insert("bytes", b"\x00\xff").insert("yes", true);
    table.insert("i8", -1_i8).insert("u8", 1_u8).insert("i16", -1_i16).insert("u16", 1_u16).insert("i32", -1);
    table.insert("u32", 1_u32).insert("f32", 0.5_f32).insert("text", "é").insert("when", Value::Timestamp(1));
    table.insert("price", Value::Decimal { scale: 2, value: 999 });
    table
}

fn methods() -> BTreeMap<&'static str, Vec<u8>> {
    let table = table();
    let arguments = table.as_ref_table();
    let start = connection::Start { version_minor: 9, server_properties: arguments, ..Default::default() };
    let declare = queue::Declare { queue: "orders", durable: true, arguments, ..Default::default() };
    let exchange = exchange::Declare { exchange: "e", kind: "topic", arguments, ..Default::default() };
    let deliver =
        basic::Deliver { consumer_tag: "c", delivery_tag: 7, redelivered: true, exchange: "e", routing_key: "k" };
    let close = channel::Close { reply_code: 404, reply_text: "NOT_FOUND", class_id: 50, method_id: 10 };
    BTreeMap::from([
        ("connection.start", wire::payload(&start)),
        ("connection.start-ok", wire::payload(&start_ok())),
        ("channel.close", wire::payload(&close)),
        ("exchange.declare", wire::payload(&exchange)),
        ("queue.declare", wire::payload(&declare)),
        ("basic.deliver", wire::payload(&deliver)),
        ("basic.qos", wire::payload(&basic::Qos { prefetch_count: 10, global: true })),
    ])
}

fn tables() -> BTreeMap<&'static str, Vec<u8>> {
    let mut nested = FieldTable::new();
    for _ in 0..10 {
        nested = FieldTable::new().with("t", &nested);
    }
    let array = FieldArray::new().with("a").with(1).with(table());
    BTreeMap::from([
        ("all_types", table().as_bytes().to_vec()),
        ("nested", nested.as_bytes().to_vec()),
        ("array", array.as_bytes().to_vec()),
    ])
}

fn properties() -> BTreeMap<&'static str, Vec<u8>> {
    let encoded = |properties: Properties| {
        let mut out = Vec::new();
        properties.encode(&mut out).expect("properties that can be encoded");
        out
    };
    let strings = Properties::new()
        .with_content_type("text/plain")
        .with_content_encoding("gzip")
        .with_correlation_id("1")
        .with_reply_to("r")
        .with_expiration("60000")
        .with_message_id("m")
        .with_kind("k")
        .with_user_id("u")
        .with_app_id("a");
    BTreeMap::from([
        ("persistent", encoded(Properties::persistent().to_owned_properties())),
        ("headers", encoded(Properties::new().with_headers(&table()))),
        ("strings", encoded(strings.clone())),
        ("all", encoded(strings.with_headers(&table()).with_persistent().with_priority(5).with_timestamp(1))),
    ])
}

/// The stage of the connection, then bytes that it receives.
fn at_stage(stage: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    [&[stage][..], &frames.concat()].concat()
}

/// The stage of the connection, then frames in the compact form that `robust::shaped` expands.
fn compact(stage: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![stage | 4];
    for frame in frames.iter().flat_map(|frames| wire::frames(frames)) {
        let size = u8::try_from(frame.payload.len());
        if let (wire::METHOD..=wire::BODY, Ok(size)) = (frame.kind, size) {
            out.extend([frame.kind - 1, frame.channel as u8, size]);
            out.extend(frame.payload);
        }
    }
    out
}

fn client_bytes() -> BTreeMap<&'static str, Vec<u8>> {
    let tune = wire::method(0, &connection::Tune { channel_max: 10, frame_max: 4096, heartbeat: 0 });
    let session = robust::transcript_to_client();
    BTreeMap::from([
        ("start", at_stage(0, &[start()])),
        ("tune", at_stage(1, &[tune, wire::method(0, &connection::OpenOk {})])),
        ("session", at_stage(3, &session)),
        ("session_compact", compact(3, &session)),
    ])
}

fn server_bytes() -> BTreeMap<&'static str, Vec<u8>> {
    let handshake = robust::transcript_to_server();
    let session = robust::transcript_to_open_server();
    BTreeMap::from([
        ("handshake", at_stage(0, &handshake)),
        ("tune_ok", at_stage(1, &handshake[2..])),
        ("session", at_stage(2, &session)),
        ("session_compact", compact(2, &session)),
    ])
}

fn operations() -> BTreeMap<&'static str, Vec<u8>> {
    const UP: u8 = 0;
    const DOWN: u8 = 2;
    const OPEN: u8 = 4;
    const CLOSE: u8 = 5;
    const CANCEL: u8 = 8;
    const CONSUME: u8 = 9;
    const GET: u8 = 10;
    const CONFIRM_SELECT: u8 = 11;
    const PUBLISH: u8 = 12;
    const SETTLE: u8 = 13;
    const DELIVER: u8 = 16;
    const CONFIRM: u8 = 18;
    // Each operation has one argument; all run on channel 1.
    let encode =
        |operations: &[(u8, u8)]| operations.iter().flat_map(|(code, argument)| [*code, argument * 3]).collect();
    let consume = [
        (OPEN, 0),
        (CONSUME, 0),
        (UP, 9),
        (DOWN, 9),
        (DELIVER, 0),
        (DELIVER, 1),
        (DOWN, 9),
        (SETTLE, 4),
        (CANCEL, 0),
        (DELIVER, 2),
        (UP, 9),
        (DOWN, 9),
    ];
    let publish = [
        (OPEN, 0),
        (CONFIRM_SELECT, 0),
        (PUBLISH, 1),
        (PUBLISH, 2),
        (UP, 9),
        (CONFIRM, 1),
        (PUBLISH, 3),
        (DOWN, 9),
        (UP, 9),
        (CONFIRM, 0),
        (DOWN, 9),
    ];
    let reopen =
        [(OPEN, 0), (GET, 0), (CLOSE, 0), (UP, 1), (DOWN, 1), (UP, 9), (DOWN, 9), (OPEN, 0), (GET, 0), (UP, 9)];
    BTreeMap::from([
        ("consume", encode(&consume)),
        ("publish_and_confirm", encode(&publish)),
        ("close_and_reopen", encode(&reopen)),
    ])
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

#[test]
fn every_fuzz_target_accepts_its_seeds() {
    for target in targets() {
        for seed in target.seeds.values() {
            (target.run)(seed);
        }
    }
}

#[test]
fn the_stored_seeds_are_current() {
    for target in targets() {
        let folder = folder(target.name);
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).expect("a writable folder");
            for (name, seed) in &target.seeds {
                std::fs::write(folder.join(name), seed).expect("a writable file");
            }
        }
        let mut stored = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).expect("the folder of the seeds") {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            stored.insert(name, std::fs::read(&path).expect("a readable file"));
        }
        let expected: BTreeMap<String, Vec<u8>> =
            target.seeds.into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect();
        assert!(stored == expected, "fuzz/seeds/{} is stale; run this test with UPDATE_SEEDS=1", target.name);
    }
}
