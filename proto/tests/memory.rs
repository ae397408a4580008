//! How much memory a peer can make this end allocate, and how much the hot paths allocate. The tests count every
//! allocation of their binary.

mod common;

use allocation_counter::{AllocationInfo, measure};
use common::{Script, start, wire};
use hopmq_proto::method::{basic, channel, confirm};
use hopmq_proto::{Body, Properties, Route, Transmit};

const KIB: u64 = 1024;

/// Measures the allocations of a client while it receives the bytes.
fn taken(mut script: Script, bytes: &[u8]) -> AllocationInfo {
    measure(|| {
        for part in bytes.chunks(1000) {
            script.send(part);
            script.peer.receiver.space();
        }
    })
}

fn consuming() -> Script {
    let mut script = Script::client_channel();
    script.peer.connection.consume(1, &basic::Consume { consumer_tag: "c", ..Default::default() }, 1, None).unwrap();
    script.send(&wire::method(1, &basic::ConsumeOk { consumer_tag: "c" }));
    script.output();
    script
}

#[test]
fn announced_sizes_allocate_nothing() {
    let deliver = wire::method(1, &basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() });
    let long_string = [&[0, 50, 0, 11, 0][..], &[0xff; 8]].concat();
    let table: &[(&str, Vec<u8>, u64)] = &[
        ("a frame of 4 GiB", wire::head(1, 1, u32::MAX), 8),
        ("a frame for a channel above the limit", wire::frame(1, u16::MAX, &[0; 900]), 8),
        ("an unknown frame type", wire::frame(9, 1, &[0; 900]), 8),
        ("a body of 4 EiB", [&deliver[..], &wire::header(1, 1 << 62)].concat(), 8),
        ("a body of 128 MiB", [&deliver[..], &wire::header(1, 128 * 1024 * 1024)].concat(), 8),
        ("an unrequested reply", wire::frame(1, 1, &long_string), 8),
        ("a confirm of an unknown publish", wire::method(1, &basic::Ack { delivery_tag: u64::MAX, multiple: true }), 8),
        // A frame within the agreed limit may follow, so the receiver reserves space for it.
        ("the head of a frame of the agreed size", wire::head(3, 1, 131_072 - 8), 256),
    ];
    for (words, bytes, limit) in table {
        let info = taken(consuming(), bytes);
        assert!(info.bytes_max < limit * KIB, "{words}: {} bytes", info.bytes_max);
        assert_eq!(info.bytes_max > 64 * KIB, *limit > 64, "{words}: {} bytes", info.bytes_max);
    }
}

#[test]
fn announced_sizes_allocate_nothing_before_the_login() {
    let mut nested = Vec::new();
    for _ in 0..1000 {
        let size = u32::try_from(nested.len()).unwrap().to_be_bytes();
        nested = [b"\x01aF", &size[..], &nested].concat();
    }
    let mut payload = vec![0, 10, 0, 10, 0, 9];
    payload.extend_from_slice(&u32::try_from(nested.len()).unwrap().to_be_bytes());
    payload.extend(nested);
    let table: &[(&str, Vec<u8>)] = &[
        ("a frame of 4 GiB", wire::head(1, 0, u32::MAX)),
        ("a frame above the limit before tuning", wire::head(1, 0, 8185)),
        ("a frame at the limit before tuning", wire::head(1, 0, 8184)),
        ("a table of a thousand levels", wire::frame(1, 0, &payload)),
        ("a table of 4 GiB", wire::frame(1, 0, b"\0\x0a\0\x0a\0\x09\xff\xff\xff\xff")),
        ("a start", start()),
    ];
    for (words, bytes) in table {
        let info = taken(Script::client(), bytes);
        assert!(info.bytes_max < 24 * KIB, "{words}: {} bytes", info.bytes_max);
    }
}

#[test]
fn large_announced_sizes_on_all_channels_allocate_little() {
    let mut script = Script::client_open();
    let mut bytes = Vec::new();
    for number in 1..=2047 {
        script.peer.connection.open_channel(number, 1).unwrap();
        bytes.extend(wire::method(number, &channel::OpenOk {}));
    }
    script.send(&bytes);
    script.peer.take();
    script.output();
    let mut bytes = Vec::new();
    for number in 1..=2047 {
        bytes.extend(wire::method(number, &basic::Deliver::default()));
    }
    for number in 1..=2047 {
        bytes.extend(wire::header(number, 128 * 1024 * 1024));
        bytes.extend(wire::body(number, b"x"));
    }
    let info = taken(script, &bytes);
    assert!(info.bytes_max < 2047 * 600, "{} bytes for {}", info.bytes_max, bytes.len());
}

#[test]
fn a_body_allocates_at_most_three_times_what_has_arrived() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    let size = 4 * 1024 * 1024;
    let bytes = wire::content(1, &deliver, &vec![7; size], 100_000);
    for arrived in [300_000, 1_000_000, 3_000_000] {
        let info = taken(consuming(), &bytes[..arrived]);
        assert!(info.bytes_max < 3 * arrived as u64 + 600 * KIB, "{} bytes for {arrived}", info.bytes_max);
    }
    let mut script = consuming();
    script.send(&bytes);
    let [hopmq_proto::Event::Delivery { content, .. }] = &script.peer.events[..] else { panic!("no delivery") };
    assert_eq!(content.body().len(), size);
}

#[test]
fn an_incomplete_message_keeps_no_buffer_alive() {
    let mut script = Script::client_open();
    for number in 1..=100 {
        script.peer.connection.open_channel(number, 1).unwrap();
        script.send(&wire::method(number, &channel::OpenOk {}));
    }
    script.peer.take();
    script.output();
    let heartbeats = wire::heartbeat().repeat(40_000);
    let info = measure(|| {
        for number in 1..=100 {
            script.send(&wire::method(number, &basic::Deliver::default()));
            script.send(&heartbeats);
        }
    });
    assert!(info.bytes_current < 600 * KIB as i64, "{} bytes", info.bytes_current);
}

#[test]
fn distant_delivery_tags_take_one_word_each() {
    let mut script = consuming();
    let mut bytes = Vec::new();
    for jump in 1..=10_000 {
        let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: jump << 40, ..Default::default() };
        bytes.extend(wire::content(1, &deliver, b"", 1));
    }
    let info = measure(|| {
        for part in bytes.chunks(1000) {
            script.send(part);
            script.peer.events.clear();
        }
    });
    assert_eq!(script.peer.connection.unacked(1), 10_000);
    assert!(info.bytes_max < 600 * KIB, "{} bytes", info.bytes_max);
}

#[test]
fn publishing_allocates_nothing() {
    let mut script = Script::client_channel();
    script.peer.connection.confirm_select(1).unwrap();
    script.send(&wire::method(1, &confirm::SelectOk {}));
    let mut transmit = Transmit::new();
    let mut tag = 0;
    let mut round = |count: u64| {
        for _ in 0..count {
            let route = Route { exchange: "", routing_key: "q", mandatory: false };
            script.peer.connection.publish(1, route, Properties::persistent(), Body::Borrowed(&[0; 100])).unwrap();
            tag += 1;
        }
        script.peer.connection.poll_transmit(script.now, &mut transmit);
        transmit.advance(transmit.len());
    };
    for _ in 0..4 {
        round(1000);
    }
    let info = measure(|| {
        for _ in 0..50 {
            round(1000);
        }
    });
    // Only the set of unconfirmed tags grows, by one word per 64 publishes.
    assert!(info.count_total <= 8, "{} allocations for 50,000 publishes", info.count_total);
}

#[test]
fn deliveries_and_acks_allocate_once_per_buffer() {
    let mut script = consuming();
    let mut transmit = Transmit::new();
    let batch = |first: u64| {
        (first..first + 1000)
            .flat_map(|delivery_tag| {
                let deliver = basic::Deliver { consumer_tag: "c", delivery_tag, ..Default::default() };
                wire::content(1, &deliver, &[0; 100], 200)
            })
            .collect::<Vec<u8>>()
    };
    let batches: Vec<Vec<u8>> = (0..14).map(|round| batch(round * 1000 + 1)).collect();
    let mut take = |bytes: &[u8]| {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let space = script.peer.receiver.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            script.peer.receiver.filled(count);
            bytes = &bytes[count..];
            while let Some(incoming) = script.peer.receiver.poll().unwrap() {
                let event = script.peer.connection.handle(script.now, incoming).unwrap();
                let Some(hopmq_proto::Event::Delivery { delivery_tag, .. }) = event else { panic!("{event:?}") };
                script.peer.connection.ack(1, delivery_tag, false).unwrap();
            }
        }
        script.peer.connection.poll_transmit(script.now, &mut transmit);
        transmit.advance(transmit.len());
    };
    let (warm, measured) = batches.split_at(4);
    warm.iter().for_each(|bytes| take(bytes));
    let info = measure(|| measured.iter().for_each(|bytes| take(bytes)));
    assert!(info.count_total <= 100, "{} allocations for 10,000 deliveries and acks", info.count_total);
}
