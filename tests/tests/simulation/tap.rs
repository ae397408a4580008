//! Decodes what a client sends, and finds deliveries that it settles twice.

use std::collections::{BTreeSet, HashMap};

use hopmq_proto::method::Method;
use hopmq_proto::{Incoming, ReceiveLimits, Receiver};

/// The decoder of one link.
pub(crate) struct Tap {
    receiver: Receiver,
    channels: HashMap<u16, Settled>,
}

/// The settled deliveries of one channel.
#[derive(Default)]
struct Settled {
    /// All delivery tags up to this one are settled.
    up_to: u64,
    /// Later delivery tags that are settled.
    each: BTreeSet<u64>,
}

impl Tap {
    pub(crate) fn new() -> Self {
        let limits = ReceiveLimits { frame_max: 131_072, channel_max: 2047, message_max: 1 << 20 };
        Self { receiver: Receiver::server(limits), channels: HashMap::new() }
    }

    /// Decodes bytes that arrived. Returns the first violation, if any.
    pub(crate) fn decode(&mut self, mut bytes: &[u8]) -> Option<String> {
        while !bytes.is_empty() {
            let space = self.receiver.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.receiver.filled(count);
            bytes = &bytes[count..];
            loop {
                match self.receiver.poll() {
                    Ok(Some(Incoming::Method { channel, payload })) => {
                        if let Some(violation) = self.method(channel, &payload) {
                            return Some(violation);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Some(error.to_string()),
                }
            }
        }
        None
    }

    fn method(&mut self, channel: u16, payload: &[u8]) -> Option<String> {
        let (tag, multiple) = match Method::decode(payload) {
            Ok(Method::ChannelOpen(_)) => {
                self.channels.remove(&channel);
                return None;
            }
            Ok(Method::BasicAck(ack)) => (ack.delivery_tag, ack.multiple),
            Ok(Method::BasicNack(nack)) => (nack.delivery_tag, nack.multiple),
            Ok(Method::BasicReject(reject)) => (reject.delivery_tag, false),
            Ok(_) => return None,
            Err(error) => return Some(error.to_string()),
        };
        let settled = self.channels.entry(channel).or_default();
        let again = tag <= settled.up_to || !settled.each.insert(tag);
        if multiple {
            settled.up_to = tag;
            settled.each = settled.each.split_off(&(tag + 1));
        }
        again.then(|| format!("delivery {tag} of channel {channel} was settled twice on one link"))
    }
}
