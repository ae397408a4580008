//! A client that does not read, or does not stop publishing, costs the broker a bounded amount of memory.

mod polled;

use hopmq_broker::{Broker, Clock};
use hopmq_proto::Event;
use hopmq_proto::method::{basic, queue};
use polled::Client;

fn broker() -> Broker {
    Broker::builder().clock(&Clock::manual()).by_hand()
}

#[test]
fn a_consumer_that_does_not_read_gets_only_what_its_connection_buffers() {
    let broker = broker();
    let mut publisher = Client::new(&broker);
    let mut consumer = Client::new(&broker);
    publisher.proto.request(1, &queue::Declare { queue: "q", ..Default::default() }, Some(2)).unwrap();
    publisher.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    let consume = basic::Consume { queue: "q", consumer_tag: "c", no_ack: true, ..Default::default() };
    consumer.proto.consume(1, &consume, 7, Some(2)).unwrap();
    consumer.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    let count = 2_000;
    let body = [7; 10_000];
    for _ in 0..count {
        publisher.publish("q", &body);
        assert!(publisher.write(&broker), "the broker reads all publishes");
    }
    let ready = broker.inspect().queue("q").expect("the queue is declared").ready;
    // The pipe holds 256 KiB; as much is being written, and as much is queued.
    assert!(ready > count - 100, "{} messages of 10 kB were sent to a client that reads nothing", count - ready);
    let mut got = 0;
    while consumer.read(&broker) > 0 {
        got += consumer.events.drain(..).filter(|event| matches!(event, Event::Delivery { .. })).count();
    }
    assert_eq!((got, broker.inspect().queue("q").expect("the queue is declared").ready), (count, 0));
}

#[test]
fn the_broker_stops_reading_from_a_client_that_does_not_read_its_replies() {
    let broker = broker();
    let mut client = Client::new(&broker);
    // A long name, so that few requests fill the pipe.
    let name = &"q".repeat(255);
    client.proto.request(1, &queue::Declare { queue: name, ..Default::default() }, Some(2)).unwrap();
    client.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    client.publish(name, &[7; 100_000]);
    while !client.write(&broker) {}
    let mut asked = 0;
    loop {
        // Each reply is the message, and each recover requeues it.
        client.proto.get(1, &basic::Get { queue: name, no_ack: false }, Some(9)).unwrap();
        client.proto.request(1, &basic::Recover { requeue: true }, None).unwrap();
        asked += 1;
        if !client.write(&broker) {
            break;
        }
        assert!(asked < 100_000, "the broker never stops reading");
    }
    let mut got = 0;
    let mut quiet = 0;
    while quiet < 3 {
        let read = client.read(&broker);
        quiet = if client.write(&broker) && read == 0 { quiet + 1 } else { 0 };
        got += client.events.drain(..).filter(|event| matches!(event, Event::Got { .. })).count();
    }
    assert_eq!(got, asked);
}
