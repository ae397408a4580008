//! A message that the caller sends: its route and its body.

use bytes::Bytes;

/// Bytes that are worth sharing.
const SHARED: usize = 4 * 1024;

/// The destination of a message.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The exchange. The default exchange has an empty name and routes to the queue that the routing key names.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Whether the broker returns the message if no queue matches.
    pub mandatory: bool,
}

/// The body of a message to send. Large shared bodies are written without a copy.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Copied into the output.
    Borrowed(&'a [u8]),
    /// Copied if small, otherwise written from its own memory.
    Shared(Bytes),
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a String> for Body<'a> {
    fn from(text: &'a String) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<Vec<u8>> for Body<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl From<String> for Body<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl<'a> From<&'a Bytes> for Body<'a> {
    /// Shares the bytes without a copy if they are many: sharing few costs more than copying them.
    #[inline]
    fn from(bytes: &'a Bytes) -> Self {
        if bytes.len() < SHARED { Self::Borrowed(bytes) } else { Self::Shared(bytes.clone()) }
    }
}

impl Body<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}
