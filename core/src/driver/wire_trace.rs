//! A trace of each method on the wire, in both directions, with the target `hopmq::wire` at level `TRACE`.
//!
//! It shows the channel, the name of the method and the size of the body. It never shows arguments: those of
//! `connection.start-ok`, `connection.secure-ok` and `connection.update-secret` are secrets.

use std::io::IoSlice;

use hopmq_proto::method::MethodId;
use hopmq_proto::{ContentKind, Frame, Incoming, Kind, PROTOCOL_HEADER, ReceiveLimits, Transmit};
use tracing::{Level, trace};

/// The output keeps to the limits of the connection, so the trace sets none.
const NO_LIMITS: ReceiveLimits = ReceiveLimits { frame_max: u32::MAX, channel_max: u16::MAX, message_max: u64::MAX };

/// Whether a subscriber wants the trace.
#[inline]
pub(super) fn is_enabled() -> bool {
    tracing::enabled!(target: "hopmq::wire", Level::TRACE)
}

/// Traces output that begins and ends with whole frames.
#[cold]
pub(super) fn trace_output(transmit: &Transmit) {
    let output = bytes_of(transmit);
    let mut rest = &*output;
    // The method of a message; its header follows.
    let mut message = None;
    loop {
        if let Some(frames) = rest.strip_prefix(&PROTOCOL_HEADER) {
            trace!(target: "hopmq::wire", direction = "out", method = "protocol header");
            rest = frames;
        }
        let Ok(Some(frame)) = Frame::parse(rest, &NO_LIMITS) else { return };
        let channel = frame.channel();
        match frame.kind() {
            Kind::Method => {
                let method = frame.method().unwrap_or_default();
                if method.has_content() {
                    message = Some(method);
                } else {
                    trace!(target: "hopmq::wire", direction = "out", channel, method = method.name());
                }
            }
            Kind::Header => {
                let body_size = frame.header().map_or(0, |(body_size, _)| body_size);
                let method = message.take().unwrap_or_default();
                trace!(target: "hopmq::wire", direction = "out", channel, method = method.name(), body_size);
            }
            Kind::Heartbeat => trace!(target: "hopmq::wire", direction = "out", method = "heartbeat"),
            Kind::Body => {}
        }
        rest = &rest[frame.size()..];
    }
}

/// Copies the output into one piece.
fn bytes_of(transmit: &Transmit) -> Vec<u8> {
    let mut capacity = 64;
    loop {
        let mut slices = vec![IoSlice::new(&[]); capacity];
        let parts = transmit.slices(&mut slices);
        if parts.len() < capacity {
            return parts.iter().flat_map(|part| part.iter().copied()).collect();
        }
        capacity *= 2;
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
            // Only servers receive it.
            Incoming::Oversized { .. } => {}
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
