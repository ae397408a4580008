//! A client that the test polls, so that it reads only when the test wants it to.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::block_on;
use hopmq_broker::{Broker, Pipe};
use hopmq_proto::method::Encode;
use hopmq_proto::{Config, Connection, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit};

/// The client. See the [module's documentation](self).
pub(crate) struct Client {
    pipe: Pipe,
    pub(crate) proto: Connection,
    receiver: Receiver,
    transmit: Transmit,
    /// Bytes that follow the pending output, whatever they are.
    pub(crate) raw: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

impl Client {
    pub(crate) fn new(broker: &Broker) -> Self {
        let proto = Connection::new(Role::Client, Config::default());
        let receiver = Receiver::client(proto.receive_limits());
        let mut client = Self {
            pipe: broker.connect(),
            proto,
            receiver,
            transmit: Transmit::new(),
            raw: Vec::new(),
            events: Vec::new(),
        };
        client.until(broker, |event| matches!(event, Event::Start { .. }));
        let capabilities = FieldTable::new().with("connection.blocked", true);
        let properties = FieldTable::new().with("capabilities", &capabilities);
        client.proto.start_ok(&properties, "PLAIN", b"\0guest\0guest").unwrap();
        client.until(broker, |event| matches!(event, Event::Opened));
        client.proto.open_channel(1, 1).unwrap();
        client
    }

    /// Writes as much of the pending output as the pipe takes. Returns whether that was all.
    pub(crate) fn write(&mut self, broker: &Broker) -> bool {
        self.proto.poll_transmit(Time::ZERO, &mut self.transmit);
        block_on(poll_fn(|context| {
            while !self.transmit.is_empty() {
                match Pin::new(&mut self.pipe).poll_write(context, self.transmit.chunk()) {
                    Poll::Ready(count) => self.transmit.advance(count.unwrap()),
                    Poll::Pending => break,
                }
            }
            while self.transmit.is_empty() && !self.raw.is_empty() {
                match Pin::new(&mut self.pipe).poll_write(context, &self.raw) {
                    Poll::Ready(count) => drop(self.raw.drain(..count.unwrap())),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(())
        }));
        while broker.tick() {}
        self.transmit.is_empty() && self.raw.is_empty()
    }

    /// Reads what the pipe holds. Returns the number of bytes.
    pub(crate) fn read(&mut self, broker: &Broker) -> usize {
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

    pub(crate) fn until(&mut self, broker: &Broker, mut wanted: impl FnMut(&Event) -> bool) {
        for _ in 0..10_000 {
            self.write(broker);
            self.read(broker);
            if self.events.drain(..).any(|event| wanted(&event)) {
                return;
            }
        }
        panic!("the event never comes");
    }

    /// Sends a method, and awaits its reply.
    pub(crate) fn call<M: Encode>(&mut self, broker: &Broker, channel: u16, method: &M) {
        self.proto.request(channel, method, Some(99)).unwrap();
        self.until(broker, |event| matches!(event, Event::Reply { request: 99, .. }));
    }

    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) {
        let route = Route { exchange: "", routing_key: queue, mandatory: false };
        self.proto.publish(1, route, Properties::EMPTY, body.into()).unwrap();
    }
}
