//! The memory limit: whatever one client does, the broker counts it, and stops reading from it at the limit.
//!
//! The broker counts what it holds itself, so the figures are the same in each run.

mod polled;

use hopmq_broker::{Broker, Builder, Clock, Limits};
use hopmq_proto::method::{basic, exchange, queue};
use hopmq_proto::{Event, FieldTable};
use polled::Client;

const LIMIT: u64 = 8_000_000;
/// What one connection may add between two looks at the limit: a read, and what waits in its buffers.
const SLACK: u64 = 1 << 20;

fn builder() -> Builder {
    Broker::builder().clock(&Clock::manual()).memory_limit(LIMIT)
}

fn used(broker: &Broker) -> u64 {
    broker.inspect().memory().used
}

fn declare(client: &mut Client, broker: &Broker, queue: &str) {
    client.call(broker, 1, &queue::Declare { queue, ..Default::default() });
}

/// Calls `send` until the broker stops reading. Returns how often.
fn until_unread(client: &mut Client, broker: &Broker, mut send: impl FnMut(&mut Client, usize)) -> usize {
    for count in 0..200_000 {
        send(client, count);
        if !client.write(broker) {
            return count;
        }
        assert!(used(broker) < LIMIT + SLACK, "{:?} after {count}", broker.inspect().memory());
    }
    panic!("the broker never stops reading: {:?}", broker.inspect().memory());
}

fn is_blocked(client: &mut Client, broker: &Broker) -> bool {
    client.read(broker);
    let mut blocked = false;
    for event in client.events.drain(..) {
        blocked = matches!(event, Event::Blocked { .. }) || blocked && !matches!(event, Event::Unblocked);
    }
    blocked
}

#[test]
fn publishers_are_blocked_at_the_limit_and_go_on_once_a_tenth_of_it_is_free() {
    let broker = builder().by_hand();
    let mut publisher = Client::new(&broker);
    let mut consumer = Client::new(&broker);
    declare(&mut publisher, &broker, "q");
    let idle = used(&broker);
    let count = until_unread(&mut publisher, &broker, |client, _| client.publish("q", &[7; 1_000]));
    assert!(used(&broker) >= LIMIT && broker.inspect().memory().alarm);
    // A place in a queue and an allocation are counted beside each body.
    assert!((4_000..7_300).contains(&count), "{count} messages of 1 kB");
    assert!(is_blocked(&mut publisher, &broker) && broker.inspect().connections()[0].blocked);
    // Others go on: they declare, and they consume.
    declare(&mut consumer, &broker, "other");
    let ready = broker.inspect().queue("q").unwrap().ready;
    for got in 1.. {
        consumer.proto.get(1, &basic::Get { queue: "q", no_ack: true }, Some(9)).unwrap();
        consumer.until(&broker, |event| matches!(event, Event::Got { .. }));
        if !broker.inspect().memory().alarm {
            assert!(got > ready / 12, "{got} of {ready} messages were enough to end the alarm");
            break;
        }
        assert!(used(&broker) >= LIMIT / 10 * 9 && got < ready, "{got} of {ready} messages");
    }
    consumer.call(&broker, 1, &queue::Purge { queue: "q", nowait: false });
    while !publisher.write(&broker) {}
    assert!(!is_blocked(&mut publisher, &broker));
    consumer.call(&broker, 1, &queue::Delete { queue: "q", ..Default::default() });
    assert!(used(&broker) < idle + SLACK, "{:?}", broker.inspect().memory());
    assert_eq!(broker.inspect().memory().messages, 0);
}

#[test]
fn a_body_counts_once_however_many_queues_hold_it() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    for number in 0..100 {
        let queue = &format!("q{number}");
        declare(&mut client, &broker, queue);
        let bind = queue::Bind { queue, exchange: "amq.fanout", routing_key: "", ..Default::default() };
        client.call(&broker, 1, &bind);
    }
    let route = hopmq_proto::Route { exchange: "amq.fanout", routing_key: "", mandatory: false };
    client.proto.publish(1, route, hopmq_proto::Properties::EMPTY, (&[7; 3_000][..]).into()).unwrap();
    client.proto.publish(1, route, hopmq_proto::Properties::EMPTY, (&[7; 50_000][..]).into()).unwrap();
    while !client.write(&broker) {}
    let messages = broker.inspect().memory().messages;
    assert!((53_000 + 200 * 100..150_000).contains(&messages), "{messages} bytes for 53 kB in 100 queues");
}

#[test]
fn a_transaction_counts_before_its_commit() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    declare(&mut client, &broker, "q");
    client.proto.tx_select(1, Some(2)).unwrap();
    client.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    until_unread(&mut client, &broker, |client, _| client.publish("q", b"small"));
    assert!(is_blocked(&mut client, &broker));
    drop(client);
    // Nothing is read from a blocked client: a heartbeat finds that it is gone.
    broker.advance("5m");
    while broker.tick() {}
    assert_eq!(broker.inspect().memory().messages, 0);
}

#[test]
fn a_transaction_above_the_share_of_a_connection_closes_its_channel() {
    let broker = Broker::builder().clock(&Clock::manual()).memory_limit(1_000_000_000).by_hand();
    let mut client = Client::new(&broker);
    declare(&mut client, &broker, "q");
    client.proto.tx_select(1, Some(2)).unwrap();
    client.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    for _ in 0..101 {
        client.publish("q", &[7; 1_000_000]);
        while !client.write(&broker) {}
    }
    let is_refused = |event: &Event| matches!(event, Event::ChannelClosed { reason, .. } if reason.code == 406);
    client.until(&broker, is_refused);
    assert_eq!(broker.inspect().memory().messages, 0);
}

/// The frames of a publish, with a part of its body.
fn part_of_a_message(channel: u16, size: u64, part: usize) -> Vec<u8> {
    let frame = |kind: u8, payload: &[u8]| {
        let [c0, c1] = channel.to_be_bytes();
        [&[kind, c0, c1][..], &(payload.len() as u32).to_be_bytes(), payload, &[0xCE]].concat()
    };
    let method = [&[0, 60, 0, 40, 0, 0, 0, 1][..], b"q", &[0]].concat();
    let header = [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat();
    [frame(1, &method), frame(2, &header), frame(3, &vec![7; part])].concat()
}

#[test]
fn parts_of_messages_on_many_channels_count_and_stop_at_the_limit() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    for number in 2..400 {
        client.proto.open_channel(number, 5).unwrap();
    }
    client.write(&broker);
    until_unread(&mut client, &broker, |client, count| {
        client.raw.extend_from_slice(&part_of_a_message(count as u16 % 398 + 2, 1_000_000, 100_000));
    });
    assert!(is_blocked(&mut client, &broker), "it publishes");
    drop(client);
    broker.advance("5m");
    while broker.tick() {}
    assert!(used(&broker) < SLACK / 8, "{:?}", broker.inspect().memory());
}

#[test]
fn too_many_parts_of_messages_close_the_connection() {
    let mut limits = Limits::default();
    limits.unfinished_percent = 1;
    let broker = Broker::builder().clock(&Clock::manual()).memory_limit(500_000_000).limits(limits).by_hand();
    let mut client = Client::new(&broker);
    for number in 2..400 {
        client.proto.open_channel(number, 5).unwrap();
    }
    for number in 2..400 {
        client.raw.extend_from_slice(&part_of_a_message(number, 1_000_000, 100_000));
    }
    let is_refused = |event: &Event| matches!(event, Event::Closed { reason: Some(reason), .. } if reason.code == 506);
    client.until(&broker, is_refused);
}

#[test]
fn a_small_body_that_keeps_a_large_receive_buffer_counts_as_much() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    declare(&mut client, &broker, "q");
    until_unread(&mut client, &broker, |client, _| {
        client.publish("q", &[7; 5_000]);
        // These are dropped at once, for no queue takes them.
        for _ in 0..40 {
            client.publish("nowhere", &[7; 5_000]);
        }
    });
    let ready = broker.inspect().queue("q").unwrap().ready;
    assert!(ready < 200, "{ready} messages keep a receive buffer of up to 256 KiB each");
}

#[test]
fn what_a_client_declares_is_refused_above_the_share_of_its_virtual_host() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    let mut refused = 0;
    let mut arguments = FieldTable::new();
    arguments.insert("large", "x".repeat(20_000).as_str());
    for number in 0..2_000 {
        let queue = &format!("q{number}");
        let declare = queue::Declare { queue, arguments: arguments.as_ref_table(), ..Default::default() };
        client.proto.request(1, &declare, Some(3)).unwrap();
        while !client.write(&broker) {}
        client.read(&broker);
        if client
            .events
            .drain(..)
            .any(|event| matches!(event, Event::ChannelClosed { reason, .. } if reason.code == 406))
        {
            refused = number;
            break;
        }
    }
    let declared = broker.inspect().memory().declared;
    assert!((50..100).contains(&refused), "refused at queue {refused}, {declared} bytes");
    assert!((LIMIT / 4..LIMIT / 4 + 50_000).contains(&declared), "{declared} bytes");
}

#[test]
fn bindings_consumers_and_channels_count_for_the_share_of_their_virtual_host() {
    let broker = builder().by_hand();
    let mut client = Client::new(&broker);
    declare(&mut client, &broker, "q");
    let mut last = broker.inspect().memory().declared;
    let mut grown = |broker: &Broker, least: u64| {
        let now = broker.inspect().memory().declared;
        assert!(now > last + least, "{last} to {now} bytes");
        last = now;
    };
    for number in 0..100 {
        let routing_key = &format!("a.b.{number}");
        let bind = queue::Bind { queue: "q", exchange: "amq.topic", routing_key, ..Default::default() };
        client.call(&broker, 1, &bind);
    }
    grown(&broker, 100 * 300);
    for number in 0..100 {
        let consumer_tag = &format!("c{number}");
        let consume = basic::Consume { queue: "q", consumer_tag, ..Default::default() };
        client.proto.consume(1, &consume, number, Some(2)).unwrap();
        client.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    }
    grown(&broker, 100 * 200);
    for number in 2..102 {
        client.proto.open_channel(number, 5).unwrap();
    }
    client.write(&broker);
    grown(&broker, 100 * 200);
    for number in 0..100 {
        let declare = exchange::Declare { exchange: &format!("e{number}"), kind: "topic", ..Default::default() };
        client.call(&broker, 1, &declare);
    }
    grown(&broker, 100 * 200);
    drop(client);
    while broker.tick() {}
    let left = broker.inspect().memory();
    assert_eq!(left.connections, 0);
    assert!(left.declared < last);
}

#[test]
fn limits_of_numbers_are_refused_with_rabbitmqs_codes() {
    let mut limits = Limits::default();
    (limits.queues, limits.exchanges, limits.bindings, limits.consumers) = (1, 8, 1, 1);
    let broker = Broker::builder().clock(&Clock::manual()).limits(limits).by_hand();
    let mut client = Client::new(&broker);
    declare(&mut client, &broker, "q");
    let bind = |key| queue::Bind { queue: "q", exchange: "amq.topic", routing_key: key, ..Default::default() };
    let exchange = |exchange| exchange::Declare { exchange, kind: "fanout", ..Default::default() };
    client.call(&broker, 1, &bind("a"));
    client.call(&broker, 1, &bind("a"));
    client.call(&broker, 1, &exchange("e7"));
    client.call(&broker, 1, &exchange("e8"));
    let mut channel = 1;
    let refusal = |client: &mut Client, channel: u16| {
        let mut text = String::new();
        client.until(&broker, |event| match event {
            Event::ChannelClosed { reason, .. } | Event::Closed { reason: Some(reason), .. } => {
                text = format!("{} {}", reason.code, reason.text);
                true
            }
            _ => false,
        });
        if client.proto.is_open() {
            client.proto.open_channel(channel + 1, 5).unwrap();
        }
        text
    };
    client.proto.request(channel, &queue::Declare { queue: "r", ..Default::default() }, Some(3)).unwrap();
    let said = refusal(&mut client, channel);
    assert_eq!(said, "406 PRECONDITION_FAILED - cannot declare queue 'r': queue limit in vhost '/' (1) is reached");
    channel += 1;
    client.proto.request(channel, &exchange("e9"), Some(3)).unwrap();
    let said = refusal(&mut client, channel);
    let expected =
        "406 PRECONDITION_FAILED - cannot declare exchange 'e9' in vhost '/': exchange limit of 8 is reached";
    assert_eq!(said, expected);
    channel += 1;
    client.proto.request(channel, &bind("b"), Some(3)).unwrap();
    let said = refusal(&mut client, channel);
    assert_eq!(said, "406 PRECONDITION_FAILED - cannot bind in vhost '/': binding limit of 1 is reached");
    channel += 1;
    for tag in ["a", "b"] {
        let consume = basic::Consume { queue: "q", consumer_tag: tag, ..Default::default() };
        client.proto.consume(channel, &consume, 7, Some(2)).unwrap();
    }
    let said = refusal(&mut client, channel);
    assert_eq!(said, "530 NOT_ALLOWED - reached maximum (1) of consumers per channel");
}

#[test]
fn messages_that_the_store_has_leave_memory_before_the_limit() {
    let storage = hopmq_broker::store::MemoryStorage::new();
    let broker = builder().store(hopmq_broker::store::Settings::small()).open_by_hand(storage).unwrap();
    let mut client = Client::new(&broker);
    client.call(&broker, 1, &queue::Declare { queue: "q", durable: true, ..Default::default() });
    let count = 20_000_usize;
    let route = hopmq_proto::Route { exchange: "", routing_key: "q", mandatory: false };
    let properties = hopmq_proto::Properties::new().with_persistent();
    let mut peak = 0;
    for number in 0..count {
        let body = format!("{number:01000}");
        client.proto.publish(1, route, properties.as_ref_properties(), body.as_bytes().into()).unwrap();
        while number % 50 == 0 && !client.write(&broker) {
            assert!(!broker.inspect().memory().alarm, "{:?} after {number}", broker.inspect().memory());
        }
        peak = peak.max(used(&broker));
    }
    while !client.write(&broker) {}
    assert!(peak < LIMIT / 8 * 7 && broker.inspect().queue("q").unwrap().ready == count, "{peak} bytes at most");
    let consume = basic::Consume { queue: "q", consumer_tag: "c", no_ack: true, ..Default::default() };
    client.proto.consume(1, &consume, 7, Some(2)).unwrap();
    let mut got = 0;
    while got < count {
        client.write(&broker);
        client.read(&broker);
        for event in client.events.drain(..) {
            if let Event::Delivery { content, .. } = event {
                assert_eq!(content.body(), format!("{got:01000}").as_bytes());
                got += 1;
            }
        }
    }
    assert!(used(&broker) < SLACK / 2, "{:?}", broker.inspect().memory());
}
