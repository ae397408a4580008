//! Frames of the gateway's own.

use hopmq_proto::method::{Encode, connection};
use hopmq_proto::put_method;

/// A method frame of the gateway's own. What it says is bounded, so it fits.
pub(crate) fn method_frame<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    let mut out = Vec::new();
    let written = put_method(&mut out, usize::MAX, channel, method);
    debug_assert!(written.is_ok(), "what the gateway writes can be written");
    out
}

/// A `connection.close` of the gateway's own. Its text is cut to what fits.
pub(crate) fn close_frame(code: u16, text: &str) -> Vec<u8> {
    method_frame(0, &connection::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 })
}
