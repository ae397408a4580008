//! What a client that does not read, or does not stop, costs the broker: a bounded amount of memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::block_on;
use hopmq_broker::{Broker, Clock, Pipe};
use hopmq_proto::method::{basic, queue};
use hopmq_proto::{Config, Connection, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit};

/// A client that is polled by hand, and reads when it is told to.
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

    /// Writes what there is to be written, as far as the pipe takes it. Returns whether all of it went.
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

    /// Reads what there is. Returns how many bytes.
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
        panic!("it never comes");
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
fn a_consumer_that_does_not_read_gets_no_more_than_its_connection_holds() {
    let broker = broker();
    let (mut publisher, mut consumer) = (Client::new(&broker), Client::new(&broker));
    publisher.proto.request(1, &queue::Declare { queue: "q", ..Default::default() }, Some(2)).unwrap();
    publisher.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    let consume = basic::Consume { queue: "q", consumer_tag: "c", no_ack: true, ..Default::default() };
    consumer.proto.consume(1, &consume, 7, Some(2)).unwrap();
    consumer.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    let (count, body) = (2_000, [7; 10_000]);
    for _ in 0..count {
        publisher.publish("q", &body);
        assert!(publisher.write(&broker), "the broker takes what is published");
    }
    let ready = broker.inspect().queue("q").expect("it is there").ready;
    // The pipe holds 256 KiB, as much is being written and as much waits to be.
    assert!(ready > count - 100, "{} of 10 kB each were sent to a client that reads nothing", count - ready);
    let mut got = 0;
    while consumer.read(&broker) > 0 {
        got += consumer.events.drain(..).filter(|event| matches!(event, Event::Delivery { .. })).count();
    }
    assert_eq!((got, broker.inspect().queue("q").expect("it is there").ready), (count, 0));
}

#[test]
fn who_asks_and_does_not_listen_is_read_no_more() {
    let broker = broker();
    let mut client = Client::new(&broker);
    // A long name, so that few questions fill the pipe.
    let name = &"q".repeat(255);
    client.proto.request(1, &queue::Declare { queue: name, ..Default::default() }, Some(2)).unwrap();
    client.until(&broker, |event| matches!(event, Event::Reply { request: 2, .. }));
    client.publish(name, &[7; 100_000]);
    while !client.write(&broker) {}
    let mut asked = 0;
    loop {
        // Each answer is the message, and each brings it back.
        client.proto.get(1, &basic::Get { queue: name, no_ack: false }, Some(9)).unwrap();
        client.proto.request(1, &basic::Recover { requeue: true }, None).unwrap();
        asked += 1;
        if !client.write(&broker) {
            break;
        }
        assert!(asked < 100_000, "the broker reads on and on");
    }
    let (mut got, mut quiet) = (0, 0);
    while quiet < 3 {
        let read = client.read(&broker);
        quiet = if client.write(&broker) && read == 0 { quiet + 1 } else { 0 };
        got += client.events.drain(..).filter(|event| matches!(event, Event::Got { .. })).count();
    }
    assert_eq!(got, asked);
}
