//! Deliveries on their way to JavaScript: many in one buffer.
//!
//! A record is eight little-endian words of 32 bits, then names, properties and body, filled up to a multiple of four
//! bytes: `wasm/npm/src/message.ts` reads it.
//!
//! | word | |
//! | --- | --- |
//! | 0 | length of the record in bytes |
//! | 1, 2 | delivery tag, low half first |
//! | 3 | length of the body |
//! | 4 | length of the properties |
//! | 5 | flags of the properties; bit 16: redelivered; bit 17: the body is not here but the next of the large ones |
//! | 6 | length of the exchange's name, length of the routing key, in 8 bits each |
//! | 7 | the link that it came by |

use hopmq::Message;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsValue;

/// Bodies of this many bytes and more are handed over by themselves, so that they are copied once.
const LARGE: usize = 4096;
/// What one batch holds, in bytes, and a record more.
const FULL: usize = 256 << 10;
const HEAD: usize = 32;
const REDELIVERED: u32 = 1 << 16;
const APART: u32 = 1 << 17;

/// A batch that is being filled.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    large: Option<Array>,
    held: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held >= FULL
    }

    pub(super) fn push(&mut self, tag: u64, link: u32, redelivered: bool, message: &Message) {
        let (exchange, key, body) = (message.exchange(), message.routing_key(), message.body());
        let properties = message.properties();
        let list = properties.as_bytes();
        let apart = body.len() >= LARGE;
        let inside = if apart { 0 } else { body.len() };
        let length = (HEAD + exchange.len() + key.len() + list.len() + inside).next_multiple_of(4);
        let mut flags = u32::from(properties.flags());
        if redelivered {
            flags |= REDELIVERED;
        }
        if apart {
            flags |= APART;
        }
        let words = [
            length as u32,
            tag as u32,
            (tag >> 32) as u32,
            body.len() as u32,
            list.len() as u32,
            flags,
            (exchange.len() | key.len() << 8) as u32,
            link,
        ];
        let end = self.bytes.len() + length;
        self.bytes.reserve(length);
        for word in words {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(exchange.as_bytes());
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(list);
        if apart {
            self.large.get_or_insert_with(Array::new).push(&Uint8Array::from(body));
        } else {
            self.bytes.extend_from_slice(body);
        }
        self.bytes.resize(end, 0);
        self.held += length + body.len();
    }

    /// Hands it over, and begins anew: `[buffer, large bodies]`.
    pub(super) fn take(&mut self) -> JsValue {
        let buffer = Uint8Array::from(&self.bytes[..]);
        self.bytes.clear();
        self.held = 0;
        let large = self.large.take().map_or(JsValue::UNDEFINED, JsValue::from);
        Array::of2(&buffer, &large).into()
    }
}
