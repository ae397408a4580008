//! The methods of AMQP 0-9-1 with RabbitMQ's extensions: one struct per method, grouped by class.
//!
//! Decoded methods borrow from the frame that arrived; methods to encode borrow from the caller. Arguments that the
//! specification reserves are not in the structs: encoding writes their defaults, and decoding skips them. The
//! `Default` of a struct is all zeros and empty, whatever the default in the specification.
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

use crate::error::{Error, code};
use crate::violation::Violation;

pub mod access;
mod any;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

pub use self::any::Method;
pub use crate::method_id::MethodId;

/// A method that can be encoded.
pub trait Encode {
    /// The class and number of the method.
    const ID: MethodId;

    /// Appends the payload of a method frame: class, method, arguments.
    ///
    /// # Errors
    /// The caller's fault, if a short string is longer than 255 bytes
    /// ([`Violation::ShortStringTooLong`]) or a table cannot be encoded. `out`
    /// is unchanged then.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error>;
}

#[cold]
fn unknown(method: MethodId) -> Error {
    let text = format!("method {}.{} does not exist", method.class, method.method);
    Violation::NotImplemented { method }.by_peer(code::NOT_IMPLEMENTED, text)
}

#[cold]
fn unsupported(method: MethodId, argument: &'static str) -> Error {
    let text = format!("{method} with {argument} is not supported; leave it at 0");
    Violation::NotImplemented { method }.by_peer(code::NOT_IMPLEMENTED, text)
}

/// What `Debug` shows in place of a secret.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;
    use crate::properties::Properties;
    use crate::table::FieldTable;
    use crate::violation::ShortString;

    fn encoded(method: impl Encode) -> Vec<u8> {
        let mut out = Vec::new();
        method.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn a_delivery_has_its_specified_bytes() {
        let deliver =
            basic::Deliver { consumer_tag: "c", delivery_tag: 3, redelivered: true, exchange: "e", routing_key: "rk" };
        let bytes = b"\x00\x3c\x00\x3c\x01c\x00\x00\x00\x00\x00\x00\x00\x03\x01\x01e\x02rk";
        assert_eq!(encoded(deliver), bytes);
        assert_eq!(Method::decode(bytes), Ok(Method::BasicDeliver(deliver)));
    }

    #[test]
    fn each_method_knows_which_peers_may_send_it() {
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
    fn unknown_and_unsupported_methods_are_not_decoded() {
        let error = Method::decode(&[0, 60, 0, 61]).unwrap_err();
        assert_eq!((error.code(), error.message()), (code::NOT_IMPLEMENTED, "method 60.61 does not exist"));
        assert_eq!(Method::decode(&[0, 60, 0]).unwrap_err().code(), code::SYNTAX_ERROR);
        let mut qos = encoded(basic::Qos { prefetch_count: 1, global: false });
        qos[7] = 1;
        assert_eq!(Method::decode(&qos).unwrap_err().code(), code::NOT_IMPLEMENTED);
    }

    #[test]
    fn a_failed_encode_leaves_the_output_unchanged() {
        let mut out = vec![1, 2];
        let long = "x".repeat(256);
        let publish = basic::Publish { exchange: "e", routing_key: &long, ..Default::default() };
        let error = publish.encode(&mut out).unwrap_err();
        let violation = Violation::ShortStringTooLong { string: ShortString::RoutingKey, size: 256 };
        assert_eq!((error.fault(), error.violation()), (Fault::Caller, violation));
        let arguments = FieldTable::new().with(&long, 1);
        let arguments = arguments.as_ref_table();
        assert!(queue::Declare { arguments, ..Default::default() }.encode(&mut out).is_err());
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn the_reply_text_of_a_close_is_truncated() {
        let close = connection::Close { reply_code: 320, reply_text: &"x".repeat(300), ..Default::default() };
        match Method::decode(&encoded(close)).unwrap() {
            Method::ConnectionClose(close) => assert_eq!(close.reply_text.len(), 255),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn debug_output_redacts_secrets() {
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
