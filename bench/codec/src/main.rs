//! One thing, so many times, and nothing else: `bench-codec WHAT COUNT`, to be run under an instruction counter.
//!
//! Two counts of instructions for two COUNTs tell what one time costs, whatever the start of the program took. WHAT:
//! - `hopmq-parse`: a delivery (method, header, body) from bytes to a message;
//! - `hopmq-deliver`: the same, through the connection's state machine as well;
//! - `amq-protocol-parse`: its three frames, by amq-protocol;
//! - `hopmq-publish`: a publish, by the connection's state machine, and its bytes handed to a transport;
//! - `amq-protocol-publish`: its three frames, written by amq-protocol.

mod theirs;

use std::error::Error;
use std::hint::black_box;
use std::io::IoSlice;

use bench_wire::Frames;
use hopmq_proto::method::basic;
use hopmq_proto::{Body, Config, Connection, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit};

/// How many deliveries stand in one read.
const BLOCK: usize = 64;
const BODY: [u8; 100] = [b'x'; 100];
const QUEUE: &str = "orders";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let what = args.next().ok_or("what?")?;
    let count: usize = args.next().ok_or("how often?")?.parse()?;
    match what.as_str() {
        "hopmq-parse" => parse(count, false),
        "hopmq-deliver" => parse(count, true),
        "hopmq-publish" => publish(count),
        "amq-protocol-parse" => theirs::parse(&deliveries(), count / BLOCK),
        "amq-protocol-publish" => theirs::publish(QUEUE, &BODY, count),
        _ => Err("no such thing".into()),
    }
}

/// A block of deliveries with persistent, typed messages, their tags counting up from 1.
fn deliveries() -> Vec<u8> {
    let mut frames = Frames::default();
    for tag in 1..=BLOCK as u64 {
        frames.method(1, 60, 60, |f| {
            f.short("consumer").u64(tag).u8(0).short("").short(QUEUE);
        });
        let content = frames.0.len();
        frames.content(1, &BODY);
        // the header without properties is replaced by one with a content type and a delivery mode
        let body = frames.0.split_off(content + 22);
        frames.0.truncate(content);
        let mut header = Frames::default();
        header.u16(60).u16(0).u64(BODY.len() as u64).u16(0x9000).short("text/plain").u8(2);
        frames.u8(2).u16(1).u32(header.0.len() as u32).bytes(&header.0).u8(bench_wire::END).bytes(&body);
    }
    frames.0
}

/// A client with an open channel and a consumer that acknowledges nothing.
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
        client.answer(0, 10, 10, |f| {
            f.u8(0).u8(9).long(b"").long(b"PLAIN").long(b"en_US");
        })?;
        client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest")?;
        client.answer(0, 10, 30, |f| {
            f.u16(2047).u32(131_072).u16(0);
        })?;
        client.answer(0, 10, 41, |f| {
            f.short("");
        })?;
        client.connection.open_channel(1, 0)?;
        client.answer(1, 20, 11, |f| {
            f.long(b"");
        })?;
        let consume =
            basic::Consume { queue: QUEUE, consumer_tag: "consumer", no_ack: true, ..basic::Consume::default() };
        client.connection.consume(1, &consume, 7, Some(1))?;
        client.answer(1, 60, 21, |f| {
            f.short("consumer");
        })?;
        client.write();
        Ok(client)
    }

    fn answer(
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

    /// Takes bytes in as they would come from a socket, and lets `then` deal with them.
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

    /// Hands everything that waits to nowhere.
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

fn parse(count: usize, through_the_connection: bool) -> Result<(), Box<dyn Error>> {
    let (block, mut client, mut seen) = (deliveries(), Client::open()?, 0);
    for _ in 0..count / BLOCK {
        client.read(&block, |client| {
            while let Some(incoming) = client.receiver.poll()? {
                seen += 1;
                if !through_the_connection {
                    black_box(incoming);
                } else if let Some(Event::Delivery { content, .. }) = client.connection.handle(Time::ZERO, incoming)? {
                    black_box(content);
                } else {
                    return Err("no delivery".into());
                }
            }
            Ok(())
        })?;
    }
    if seen == count / BLOCK * BLOCK { Ok(()) } else { Err("not all came through".into()) }
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
