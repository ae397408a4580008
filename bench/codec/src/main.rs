//! Repeats one operation for an instruction counter: `bench-codec OPERATION COUNT`.
//!
//! The instruction counts of two COUNTs give the cost of one operation, without the start of the program. OPERATION is:
//! - `hopmq-parse`: parse a delivery (method, header, body) into a message;
//! - `hopmq-deliver`: parse a delivery and pass it to the connection's state machine;
//! - `amq-protocol-parse`: parse the three frames of a delivery with amq-protocol;
//! - `hopmq-publish`: publish with the connection's state machine, and write the bytes to a transport;
//! - `amq-protocol-publish`: write the three frames of a publish with amq-protocol.

mod amq_protocol;

use std::error::Error;
use std::hint::black_box;
use std::io::IoSlice;

use bench_wire::Frames;
use hopmq_proto::method::basic;
use hopmq_proto::{Body, Config, Connection, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit};

/// The number of deliveries in a read.
const BLOCK: usize = 64;
const BODY: [u8; 100] = [b'x'; 100];
const QUEUE: &str = "orders";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bench-codec OPERATION COUNT";
    let operation = args.next().ok_or(usage)?;
    let count: usize = args.next().ok_or(usage)?.parse()?;
    match operation.as_str() {
        "hopmq-parse" => parse(count, false),
        "hopmq-deliver" => parse(count, true),
        "hopmq-publish" => publish(count),
        "amq-protocol-parse" => amq_protocol::parse(&deliveries(), count / BLOCK),
        "amq-protocol-publish" => amq_protocol::publish(QUEUE, &BODY, count),
        _ => Err(format!("unknown operation: {operation}").into()),
    }
}

/// A block of deliveries of persistent messages with a content type. The tags count up from 1.
fn deliveries() -> Vec<u8> {
    let mut frames = Frames::default();
    for tag in 1..=BLOCK as u64 {
        frames.method(1, 60, 60, |f| {
            f.short("consumer").u64(tag).u8(0).short("").short(QUEUE);
        });
        let content = frames.0.len();
        frames.content(1, &BODY);
        // Replaces the header without properties by one with a content type and a delivery mode.
        let body = frames.0.split_off(content + 22);
        frames.0.truncate(content);
        let mut header = Frames::default();
        header.u16(60).u16(0).u64(BODY.len() as u64).u16(0x9000).short("text/plain").u8(2);
        frames.u8(2).u16(1).u32(header.0.len() as u32).bytes(&header.0).u8(bench_wire::END).bytes(&body);
    }
    frames.0
}

/// A client with an open channel and a consumer without acknowledgements.
struct Client {
    connection: Connection,
    receiver: Receiver,
    transmit: Transmit,
}

impl Client {
    fn open() -> Result<Self, Box<dyn Error>> {
        let connection = Connection::new(Role::Client, Config::default());
        let receiver = Receiver::client(connection.receive_limits());
        let mut client = Self { connection, receiver, transmit: Transmit::new() };
        client.handle_answer(0, 10, 10, |f| {
            f.u8(0).u8(9).long(b"").long(b"PLAIN").long(b"en_US");
        })?;
        client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest")?;
        client.handle_answer(0, 10, 30, |f| {
            f.u16(2047).u32(131_072).u16(0);
        })?;
        client.handle_answer(0, 10, 41, |f| {
            f.short("");
        })?;
        client.connection.open_channel(1, 0)?;
        client.handle_answer(1, 20, 11, |f| {
            f.long(b"");
        })?;
        let consume =
            basic::Consume { queue: QUEUE, consumer_tag: "consumer", no_ack: true, ..basic::Consume::default() };
        client.connection.consume(1, &consume, 7, Some(1))?;
        client.handle_answer(1, 60, 21, |f| {
            f.short("consumer");
        })?;
        client.write();
        Ok(client)
    }

    fn handle_answer(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        fields: impl FnOnce(&mut Frames),
    ) -> Result<(), Box<dyn Error>> {
        let mut frames = Frames::default();
        frames.method(channel, class, method, fields);
        self.read(&frames.0, |client| {
            while let Some(incoming) = client.receiver.poll()? {
                client.connection.handle(Time::ZERO, incoming)?;
                client.receiver.set_limits(client.connection.receive_limits());
            }
            Ok(())
        })
    }

    /// Feeds bytes to the receiver as a socket would, and calls `then` after each part.
    fn read(
        &mut self,
        mut bytes: &[u8],
        mut then: impl FnMut(&mut Self) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        while !bytes.is_empty() {
            let space = self.receiver.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.receiver.filled(count);
            bytes = &bytes[count..];
            then(self)?;
        }
        Ok(())
    }

    /// Discards all bytes that wait to be written.
    fn write(&mut self) {
        if self.connection.poll_transmit(Time::ZERO, &mut self.transmit) {
            while !self.transmit.is_empty() {
                let mut slices = [IoSlice::new(&[]); 4];
                let written = self.transmit.slices(&mut slices).iter().map(|slice| black_box(slice).len()).sum();
                self.transmit.advance(written);
            }
        }
    }
}

fn parse(count: usize, through_connection: bool) -> Result<(), Box<dyn Error>> {
    let block = deliveries();
    let mut client = Client::open()?;
    let mut seen = 0;
    for _ in 0..count / BLOCK {
        client.read(&block, |client| {
            while let Some(incoming) = client.receiver.poll()? {
                seen += 1;
                if !through_connection {
                    black_box(incoming);
                } else if let Some(Event::Delivery { content, .. }) = client.connection.handle(Time::ZERO, incoming)? {
                    black_box(content);
                } else {
                    return Err("the state machine did not return a delivery".into());
                }
            }
            Ok(())
        })?;
    }
    if seen == count / BLOCK * BLOCK { Ok(()) } else { Err(format!("parsed {seen} deliveries of {count}").into()) }
}

fn publish(count: usize) -> Result<(), Box<dyn Error>> {
    let mut client = Client::open()?;
    let properties = Properties::new().with_content_type("text/plain").with_persistent();
    let route = Route { exchange: "", routing_key: QUEUE, mandatory: false };
    for n in 1..=count {
        client.connection.publish(1, route, properties.as_ref_properties(), Body::from(&BODY))?;
        if n % BLOCK == 0 {
            client.write();
        }
    }
    client.write();
    Ok(())
}
