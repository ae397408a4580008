//! The headers and queue names that the workers of all languages share.

use std::time::Duration;

/// The attempt that a message is for, as an integer; the first attempt has no such header.
pub const ATTEMPT: &str = "x-hopmq-attempt";
/// The class of the last error, such as `timeout`.
pub const ERROR_CLASS: &str = "x-hopmq-error-class";
/// The text of the last error, of at most [`ERROR_BYTES`].
pub const ERROR: &str = "x-hopmq-error";
/// The queue whose handler forwarded the message.
pub const QUEUE: &str = "x-hopmq-queue";
/// The exchange that the message was first published to.
pub const EXCHANGE: &str = "x-hopmq-exchange";
/// The routing key that the message was first published with.
pub const ROUTING_KEY: &str = "x-hopmq-routing-key";
/// The hash of the key of a message in a partition, as an integer of 64 bits.
pub const KEY: &str = "x-hopmq-key";
/// When the sender stops waiting for the reply, in milliseconds since 1970.
pub const DEADLINE: &str = "x-hopmq-deadline";
/// The class of the fault that a reply carries in place of a result.
pub const FAULT: &str = "x-hopmq-fault";

/// The most bytes of [`ERROR`].
pub const ERROR_BYTES: usize = 2000;
/// The most bytes of [`ERROR`] if other headers leave little room.
pub const SHORT_ERROR_BYTES: usize = 100;
/// The most bytes of [`ERROR_CLASS`].
pub const CLASS_BYTES: usize = 100;

/// The headers that are written anew when a message is moved.
pub(crate) const OWN: [&str; 6] = [ATTEMPT, ERROR_CLASS, ERROR, QUEUE, EXCHANGE, ROUTING_KEY];

/// Headers of the broker that are not forwarded: counts of an earlier queue would count twice, and `CC` would publish
/// to other queues again.
pub const DROPPED: [&str; 4] = ["x-delivery-count", "x-acquired-count", "CC", "BCC"];

/// Returns the name of the queue in which messages of `queue` wait for `delay`.
pub fn retry_queue(queue: &str, delay: Duration) -> String {
    format!("{queue}.retry.{}", delay.as_millis())
}

/// Returns the text, cut at a character so that it has at most `most` bytes.
pub fn shortened(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
