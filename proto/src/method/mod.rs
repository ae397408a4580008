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
