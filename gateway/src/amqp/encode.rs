//! Encodes the frames that the gateway itself sends.

use hopmq_proto::method::{Encode, connection};
use hopmq_proto::put_method;

/// Encodes a method frame. The gateway's own methods are small, so no limit applies.
pub(crate) fn method_frame<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    let mut out = Vec::new();
    let written = put_method(&mut out, usize::MAX, channel, method);
    debug_assert!(written.is_ok(), "cannot encode a method of the gateway: {written:?}");
    out
}

/// Encodes a `connection.close`. A text that is too long is cut.
pub(crate) fn close_frame(code: u16, text: &str) -> Vec<u8> {
    method_frame(0, &connection::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 })
}
