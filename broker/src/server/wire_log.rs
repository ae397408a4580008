//! The trace of the methods that a connection receives and sends: their names and channels, never their arguments.
//!
//! It is off unless a subscriber takes the level `trace` of the target `hopmq_broker::wire` when the connection starts.
//! Otherwise it costs one comparison for each read and write.

use std::io::IoSlice;

use hopmq_proto::Incoming;
use hopmq_proto::method::MethodId;

use crate::frames::Frames;

const TARGET: &str = "hopmq_broker::wire";
const METHOD_FRAME: u8 = 1;

/// The trace of one connection. See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct WireLog {
    connection: u64,
    sent: Frames,
}

impl WireLog {
    pub(super) fn if_enabled(connection: u64) -> Option<Box<Self>> {
        let is_on = tracing::enabled!(target: TARGET, tracing::Level::TRACE);
        is_on.then(|| Box::new(Self { connection, sent: Frames::default() }))
    }

    pub(super) fn received(&self, incoming: &Incoming) {
        let (channel, method) = match incoming {
            Incoming::Method { channel, payload } => (*channel, MethodId::peek(payload).unwrap_or_default()),
            Incoming::Content { channel, .. } | Incoming::Oversized { channel, .. } => {
                (*channel, MethodId::BASIC_PUBLISH)
            }
            Incoming::ProtocolHeader(_) | Incoming::Heartbeat => return,
        };
        tracing::trace!(target: TARGET, connection = self.connection, channel, method = method.name(), "received");
    }

    /// Logs the methods that end in the first `count` bytes of the output.
    pub(super) fn sent(&mut self, output: &[IoSlice<'_>], mut count: usize) {
        let connection = self.connection;
        for bytes in output {
            let written = &bytes[..bytes.len().min(count)];
            count -= written.len();
            self.sent.feed(written, None, |frame| {
                if frame.kind == METHOD_FRAME {
                    let method = MethodId::peek(&frame.payload).unwrap_or_default();
                    let channel = frame.channel;
                    tracing::trace!(target: TARGET, connection, channel, method = method.name(), "sent");
                }
            });
        }
    }
}
