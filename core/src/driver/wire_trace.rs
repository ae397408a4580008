//! A trace of each method on the wire, in both directions, with the target `hopmq::wire` at level `TRACE`.
//!
//! It shows the channel, the name of the method and the size of the body. It never shows arguments: those of
//! `connection.start-ok`, `connection.secure-ok` and `connection.update-secret` are secrets.

use std::io::IoSlice;

use hopmq_proto::method::MethodId;
use hopmq_proto::{ContentKind, Incoming, PROTOCOL_HEADER, Transmit};
use tracing::{Level, trace};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const HEARTBEAT: u8 = 8;

/// Whether a subscriber wants the trace.
#[inline]
pub(super) fn is_enabled() -> bool {
    tracing::enabled!(target: "hopmq::wire", Level::TRACE)
}

/// Traces output that begins and ends with whole frames.
#[cold]
pub(super) fn trace_output(transmit: &Transmit) {
    let mut slices = vec![IoSlice::new(&[]); 64];
    let count = loop {
        let count = transmit.slices(&mut slices).len();
        if count < slices.len() {
            break count;
        }
        slices = vec![IoSlice::new(&[]); 2 * count];
    };
    let mut rest = Bytes { slices: &slices[..count], offset: 0 };
    // The method of a message; its header follows.
    let mut message = None;
    while let Some(head) = rest.take::<7>() {
        if PROTOCOL_HEADER.starts_with(&head) {
            rest.skip(PROTOCOL_HEADER.len() - head.len());
            trace!(target: "hopmq::wire", direction = "out", method = "protocol header");
            continue;
        }
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let read = match head[0] {
            METHOD => {
                let Some(payload) = rest.take::<4>() else { return };
                let method = MethodId::peek(&payload).unwrap_or_default();
                if method.has_content() {
                    message = Some(method);
                } else {
                    trace!(target: "hopmq::wire", direction = "out", channel, method = method.name());
                }
                payload.len()
            }
            HEADER => {
                let Some(payload) = rest.take::<12>() else { return };
                let [.., s0, s1, s2, s3, s4, s5, s6, s7] = payload;
                let body_size = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
                let method = message.take().unwrap_or_default();
                trace!(target: "hopmq::wire", direction = "out", channel, method = method.name(), body_size);
                payload.len()
            }
            HEARTBEAT => {
                trace!(target: "hopmq::wire", direction = "out", method = "heartbeat");
                0
            }
            _ => 0,
        };
        rest.skip(size + 1 - read);
    }
}

/// Traces input.
#[cold]
pub(super) fn trace_input(incoming: &[Incoming]) {
    for incoming in incoming {
        match incoming {
            Incoming::Method { channel, payload } => {
                let method = MethodId::peek(payload).unwrap_or_default();
                trace!(target: "hopmq::wire", direction = "in", channel, method = method.name());
            }
            Incoming::Content { channel, content } => {
                let method = match content.kind() {
                    ContentKind::Publish => "basic.publish",
                    ContentKind::Return => "basic.return",
                    ContentKind::Deliver => "basic.deliver",
                    ContentKind::GetOk => "basic.get-ok",
                };
                let body_size = content.body().len();
                trace!(target: "hopmq::wire", direction = "in", channel, method, body_size);
            }
            Incoming::Heartbeat => trace!(target: "hopmq::wire", direction = "in", method = "heartbeat"),
            Incoming::ProtocolHeader(_) => trace!(target: "hopmq::wire", direction = "in", method = "protocol header"),
        }
    }
}

/// The bytes of several slices.
struct Bytes<'a> {
    slices: &'a [IoSlice<'a>],
    /// Bytes of the first slice that are read.
    offset: usize,
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            self.skip(0);
            *byte = *self.slices.first()?.get(self.offset)?;
            self.offset += 1;
        }
        Some(bytes)
    }

    fn skip(&mut self, count: usize) {
        self.offset += count;
        while let Some(slice) = self.slices.first()
            && self.offset >= slice.len()
        {
            self.offset -= slice.len();
            self.slices = &self.slices[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{self, Write};
    use std::sync::{Arc, Mutex};

    use futures_lite::StreamExt;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use crate::Connection;
    use crate::common::World;

    /// Collects the trace of the wire, a line for each event.
    #[derive(Clone, Default)]
    struct Collector(Arc<Mutex<String>>);

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            match field.name() {
                "direction" => write!(self.0, "{value:?}"),
                "body_size" => write!(self.0, " {value:?} bytes"),
                _ => write!(self.0, " {value:?}"),
            }
            .unwrap();
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    impl Subscriber for Collector {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "hopmq::wire"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = String::new();
            event.record(&mut Fields(&mut line));
            writeln!(self.0.lock().unwrap(), "{line}").unwrap();
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn each_method_is_traced_in_order_and_no_secret_is() {
        let collector = Collector::default();
        tracing::subscriber::with_default(collector.clone(), || {
            let mut world = World::new();
            let builder = Connection::builder().credentials("user", "hunter2-xyzzy");
            let (connection, channel) = world.open_by(&builder);
            world.run(connection.update_secret("hunter3-plugh", "expired")).unwrap();
            world.run(channel.queue("q").declare()).unwrap();
            let mut consumer = world.run(channel.consume("q").no_ack().start()).unwrap();
            // A body that is copied, and one that is written from where it lies.
            for size in [5, 10_000] {
                world.run(channel.publish("", "q", vec![b'x'; size]).confirm()).unwrap();
                assert_eq!(world.run(consumer.next()).unwrap().unwrap().body().len(), size);
            }
            world.run(connection.close()).unwrap();
        });
        let trace = collector.0.lock().unwrap().clone();
        let expected = "
            out protocol header
            in 0 connection.start
            out 0 connection.start-ok
            in 0 connection.tune
            out 0 connection.tune-ok
            out 0 connection.open
            in 0 connection.open-ok
            out 1 channel.open
            in 1 channel.open-ok
            out 0 connection.update-secret
            in 0 connection.update-secret-ok
            out 1 queue.declare
            in 1 queue.declare-ok
            out 1 basic.consume
            in 1 basic.consume-ok
            out 1 confirm.select
            out 1 basic.publish 5 bytes
            in 1 confirm.select-ok
            in 1 basic.ack
            in 1 basic.deliver 5 bytes
            out 1 basic.publish 10000 bytes
            in 1 basic.ack
            in 1 basic.deliver 10000 bytes
            out 0 connection.close
            in 0 connection.close-ok";
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(trace.trim()), lines(expected.trim()), "{trace}");
        assert!(!trace.contains("hunter"), "{trace}");
    }
}
