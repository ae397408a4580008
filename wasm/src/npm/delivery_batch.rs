//! Batches of deliveries for JavaScript: one buffer with many records.
//!
//! A record is eight little-endian words of 32 bits, then exchange, routing key, properties and body, padded to a
//! multiple of four bytes. `wasm/npm/src/message.ts` reads it.
//!
//! | word | |
//! | --- | --- |
//! | 0 | length of the record in bytes |
//! | 1, 2 | delivery tag, low half first |
//! | 3 | length of the body |
//! | 4 | length of the properties |
//! | 5 | property flags; bit 16: redelivered; bit 17: the body is the next of the large bodies, not here |
//! | 6 | length of the exchange name, length of the routing key, in 8 bits each |
//! | 7 | number of the link that delivered it |

use hopmq::Message;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsValue;

/// Bodies of at least this many bytes get an array of their own, so that they are copied only once.
const LARGE_MIN: usize = 4096;
/// A batch is full once its records and bodies reach this many bytes.
const FULL_SIZE: usize = 256 << 10;
const HEAD_SIZE: usize = 32;
const REDELIVERED: u32 = 1 << 16;
const SEPARATE_BODY: u32 = 1 << 17;

/// A batch that is being filled.
#[derive(Default)]
pub(super) struct DeliveryBatch {
    bytes: Vec<u8>,
    large: Option<Array>,
    /// Bytes of all records, and of the large bodies.
    size: usize,
}

impl DeliveryBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.size >= FULL_SIZE
    }

    pub(super) fn push(&mut self, tag: u64, link: u32, redelivered: bool, message: &Message) {
        let exchange = message.exchange_bytes();
        let key = message.routing_key_bytes();
        let properties = message.properties();
        let property_list = properties.as_bytes();
        let body = message.body();
        let separate = body.len() >= LARGE_MIN;
        let inline_size = if separate { 0 } else { body.len() };
        let length = (HEAD_SIZE + exchange.len() + key.len() + property_list.len() + inline_size).next_multiple_of(4);
        let mut flags = u32::from(properties.flags());
        if redelivered {
            flags |= REDELIVERED;
        }
        if separate {
            flags |= SEPARATE_BODY;
        }
        let words = [
            length as u32,
            tag as u32,
            (tag >> 32) as u32,
            body.len() as u32,
            property_list.len() as u32,
            flags,
            (exchange.len() | key.len() << 8) as u32,
            link,
        ];
        let end = self.bytes.len() + length;
        self.bytes.reserve(length);
        for word in words {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(exchange);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(property_list);
        if separate {
            self.large.get_or_insert_with(Array::new).push(&Uint8Array::from(body));
        } else {
            self.bytes.extend_from_slice(body);
        }
        self.bytes.resize(end, 0);
        self.size += length + body.len();
    }

    /// Returns the batch as `[buffer, large bodies]` and starts a new one.
    pub(super) fn take(&mut self) -> JsValue {
        let buffer = Uint8Array::from(&self.bytes[..]);
        self.bytes.clear();
        self.size = 0;
        let large = self.large.take().map_or(JsValue::UNDEFINED, JsValue::from);
        Array::of2(&buffer, &large).into()
    }
}
