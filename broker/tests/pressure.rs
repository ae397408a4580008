//! A client that does not read, or does not stop publishing, costs the broker a bounded amount of memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::block_on;
use hopmq_broker::{Broker, Clock, Pipe};
use hopmq_proto::method::{basic, queue};
use hopmq_proto::{Config, Connection, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit};

/// A client that the test polls, so that it reads only when the test wants it to.
struct Client {
    pipe: Pipe,
    proto: Connection,
    receiver: Receiver,
    transmit: Transmit,
    events: Vec<Event>,
}

impl Client {
    fn new(broker: &Broker) -> Self {
        let proto = Connection::new(Role::Client, Config::default());
        let receiver = Receiver::client(proto.receive_limits());
        let mut client =
            Self { pipe: broker.connect(), proto, receiver, transmit: Transmit::new(), events: Vec::new() };
        client.until(broker, |event| matches!(event, Event::Start { .. }));
        client.proto.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest").unwrap();
        client.until(broker, |event| matches!(event, Event::Opened));
        client.proto.open_channel(1, 1).unwrap();
        client
    }

    /// Writes as much of the pending output as the pipe takes. Returns whether that was all.
    fn write(&mut self, broker: &Broker) -> bool {
        self.proto.poll_transmit(Time::ZERO, &mut self.transmit);
        block_on(poll_fn(|context| {
            while !self.transmit.is_empty() {
                match Pin::new(&mut self.pipe).poll_write(context, self.transmit.chunk()) {
                    Poll::Ready(count) => self.transmit.advance(count.unwrap()),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(())
        }));
        while broker.tick() {}
        self.transmit.is_empty()
    }

    /// Reads what the pipe holds. Returns the number of bytes.
    fn read(&mut self, broker: &Broker) -> usize {
        let count =
            block_on(poll_fn(|context| match Pin::new(&mut self.pipe).poll_read(context, self.receiver.space()) {
                Poll::Ready(count) => Poll::Ready(count.unwrap()),
                Poll::Pending => Poll::Ready(0),
            }));
        self.receiver.filled(count);
        while let Some(incoming) = self.receiver.poll().unwrap() {
            self.events.extend(self.proto.handle(Time::ZERO, incoming).unwrap());
            self.receiver.set_limits(self.proto.receive_limits());
        }
        while broker.tick() {}
        count
    }

    fn until(&mut self, broker: &Broker, mut wanted: impl FnMut(&Event) -> bool) {
        for _ in 0..10_000 {
            self.write(broker);
            self.read(broker);
            if self.events.drain(..).any(|event| wanted(&event)) {
                return;
            }
        }
        panic!("the event never comes");
    }

    fn publish(&mut self, queue: &str, body: &[u8]) {
        let route = Route { exchange: "", routing_key: queue, mandatory: false };
        self.proto.publish(1, route, Properties::EMPTY, body.into()).unwrap();
    }
}

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
