//! The methods of AMQP 0-9-1, as RabbitMQ extends it: one struct each, grouped by class.
//!
//! What is borrowed points into the frame that came in, or into what the caller has. Arguments that the
//! specification reserves are not in the structs: they are written as their defaults and skipped on reading. The
//! `Default` of a struct is all zeros and empty, whatever the specification's default is.
//!
//! ```
//! use hopmq_proto::method::{Encode, Method, queue};
//!
//! let mut payload = Vec::new();
//! queue::Declare { queue: "orders", durable: true, ..Default::default() }.encode(&mut payload)?;
//! match Method::decode(&payload)? {
//!     Method::QueueDeclare(declare) => assert!(declare.queue == "orders" && declare.durable),
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), hopmq_proto::Error>(())
//! ```

use std::fmt;

use bytes::BufMut;

use crate::Error;
use crate::error::code;

pub mod access;
mod any;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
mod ids;
pub mod queue;
pub mod tx;

pub use self::any::Method;

/// A method that can be written.
pub trait Encode {
    /// Which method it is.
    const ID: MethodId;

    /// Appends the payload of a method frame: class, method, arguments.
    ///
    /// # Errors
    /// A name is longer than 255 bytes, or a table can't be encoded: the caller's fault. `out` is as before then.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// A class and a method in it, by their numbers. Displayed as `queue.declare`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId {
    /// The class, for instance 50 for `queue`.
    pub class: u16,
    /// The method in its class, for instance 10 for `queue.declare`.
    pub method: u16,
}

/// What the specification says about a method.
#[derive(Clone, Copy)]
struct Facts {
    name: &'static str,
    traits: u8,
}

// The bits of `Facts::traits`.
const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const CONTENT: u8 = 4;
const SYNCHRONOUS: u8 = 8;
const REPLY: u8 = 16;

impl MethodId {
    /// The id that the payload of a method frame begins with.
    ///
    /// # Errors
    /// If the payload is shorter than an id: code 502.
    #[inline]
    pub fn peek(payload: &[u8]) -> Result<Self, Error> {
        let Some(&[c0, c1, m0, m1]) = payload.first_chunk() else {
            return Err(Error::peer(code::SYNTAX_ERROR, "a method frame shorter than a method's id"));
        };
        Ok(Self { class: u16::from_be_bytes([c0, c1]), method: u16::from_be_bytes([m0, m1]) })
    }

    /// The name in the specification, for instance `queue.declare`; `unknown` if there is no such method.
    pub fn name(self) -> &'static str {
        self.facts().map_or("unknown", |facts| facts.name)
    }

    /// Whether there is such a method.
    pub fn is_known(self) -> bool {
        self.facts().is_some()
    }

    /// Whether a content header and a body follow it.
    #[inline]
    pub fn has_content(self) -> bool {
        self.is(CONTENT)
    }

    /// Whether a client may send it.
    #[inline]
    pub fn from_client(self) -> bool {
        self.is(CLIENT)
    }

    /// Whether a server may send it.
    #[inline]
    pub fn from_server(self) -> bool {
        self.is(SERVER)
    }

    /// Whether it asks for a reply (unless its `nowait` is set).
    #[inline]
    pub fn is_synchronous(self) -> bool {
        self.is(SYNCHRONOUS)
    }

    /// Whether it is the reply to a synchronous method.
    #[inline]
    pub fn is_reply(self) -> bool {
        self.is(REPLY)
    }

    #[inline]
    fn is(self, bit: u8) -> bool {
        self.facts().is_some_and(|facts| facts.traits & bit != 0)
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.facts() {
            Some(facts) => f.write_str(facts.name),
            None => write!(f, "method {}.{}", self.class, self.method),
        }
    }
}

#[inline]
fn put_id(out: &mut Vec<u8>, id: MethodId) {
    out.put_u32(u32::from(id.class) << 16 | u32::from(id.method));
}

#[cold]
fn unknown(id: MethodId) -> Error {
    Error::peer(code::NOT_IMPLEMENTED, format!("there is no method {}.{}", id.class, id.method))
}

#[cold]
fn unsupported(what: &'static str) -> Error {
    Error::peer(code::NOT_IMPLEMENTED, what)
}

/// What `Debug` shows in the place of a secret.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::FieldTable;
    use crate::{Fault, Properties};

    fn encoded(method: impl Encode) -> Vec<u8> {
        let mut out = Vec::new();
        method.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn a_delivery_is_these_bytes() {
        let deliver =
            basic::Deliver { consumer_tag: "c", delivery_tag: 3, redelivered: true, exchange: "e", routing_key: "rk" };
        let bytes = b"\x00\x3c\x00\x3c\x01c\x00\x00\x00\x00\x00\x00\x00\x03\x01\x01e\x02rk";
        assert_eq!(encoded(deliver), bytes);
        assert_eq!(Method::decode(bytes), Ok(Method::BasicDeliver(deliver)));
    }

    #[test]
    fn who_may_send_what() {
        for id in [MethodId::BASIC_ACK, MethodId::BASIC_NACK, MethodId::BASIC_CANCEL, MethodId::CHANNEL_FLOW_OK] {
            assert!(id.from_client() && id.from_server(), "{id}");
        }
        for id in [MethodId::CHANNEL_CLOSE, MethodId::CHANNEL_CLOSE_OK, MethodId::CONNECTION_CLOSE] {
            assert!(id.from_client() && id.from_server(), "{id}");
        }
        for id in [MethodId::BASIC_PUBLISH, MethodId::CONNECTION_UPDATE_SECRET, MethodId::CONNECTION_TUNE_OK] {
            assert!(id.from_client() && !id.from_server(), "{id}");
        }
        for id in [MethodId::BASIC_DELIVER, MethodId::CONNECTION_BLOCKED, MethodId::BASIC_GET_EMPTY] {
            assert!(!id.from_client() && id.from_server(), "{id}");
        }
        assert!(MethodId::BASIC_GET_EMPTY.is_reply() && MethodId::BASIC_GET_OK.is_reply());
        assert!(MethodId::QUEUE_DECLARE.is_synchronous() && !MethodId::BASIC_PUBLISH.is_synchronous());
        let strange = MethodId { class: 60, method: 61 };
        assert!(!strange.is_known() && !strange.has_content() && !strange.from_client());
        assert_eq!((strange.name(), strange.to_string().as_str()), ("unknown", "method 60.61"));
    }

    #[test]
    fn what_is_not_decoded_and_why() {
        let error = Method::decode(&[0, 60, 0, 61]).unwrap_err();
        assert_eq!((error.code(), error.message()), (code::NOT_IMPLEMENTED, "there is no method 60.61"));
        assert_eq!(Method::decode(&[0, 60, 0]).unwrap_err().code(), code::SYNTAX_ERROR);
        let mut qos = encoded(basic::Qos { prefetch_count: 1, global: false });
        qos[7] = 1;
        assert_eq!(Method::decode(&qos).unwrap_err().code(), code::NOT_IMPLEMENTED);
    }

    #[test]
    fn a_failed_encode_leaves_nothing_behind() {
        let mut out = vec![1, 2];
        let long = "x".repeat(256);
        let error = basic::Publish { exchange: "e", routing_key: &long, ..Default::default() }.encode(&mut out);
        assert_eq!(error.unwrap_err().fault(), Fault::Caller);
        let arguments = FieldTable::new().with(&long, 1);
        let arguments = arguments.as_ref_table();
        assert!(queue::Declare { arguments, ..Default::default() }.encode(&mut out).is_err());
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn a_close_is_never_too_long() {
        let close = connection::Close { reply_code: 320, reply_text: &"x".repeat(300), ..Default::default() };
        match Method::decode(&encoded(close)).unwrap() {
            Method::ConnectionClose(close) => assert_eq!(close.reply_text.len(), 255),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let start = connection::StartOk { mechanism: "PLAIN", response: b"\0user\0hunter2", ..Default::default() };
        let secure = connection::SecureOk { response: b"hunter2" };
        let update = connection::UpdateSecret { new_secret: b"hunter2", reason: "expired" };
        for shown in [format!("{start:?}"), format!("{secure:?}"), format!("{update:?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
        }
    }

    #[test]
    fn methods_are_small() {
        assert!(size_of::<Method<'_>>() <= 96, "{}", size_of::<Method<'_>>());
        assert!(size_of::<Properties<&[u8]>>() <= 24);
    }
}
