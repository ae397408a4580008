//! Bodies: how values are written to them and read from them.
//!
//! Owns the formats and the compressions with their limits. In come bytes with a content type and a content encoding;
//! out go values, and the other way round. It must never know a queue, a handler or a connection.

#[cfg(feature = "cbor")]
mod cbor;
mod encoding;
#[cfg(feature = "codec")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "codec")]
mod typed;

#[cfg(feature = "cbor")]
pub use cbor::Cbor;
#[cfg(all(feature = "codec", feature = "gzip"))]
pub use encoding::Gzip;
#[cfg(all(feature = "codec", feature = "zstd"))]
pub use encoding::Zstd;
pub(crate) use encoding::{decode, oversized};
#[cfg(feature = "codec")]
pub use json::Json;
#[cfg(feature = "msgpack")]
pub use msgpack::MsgPack;
#[cfg(feature = "json")]
pub(crate) use typed::extract;
#[cfg(feature = "codec")]
pub use typed::{Codec, Format, IntoPayload};

/// How long a body may be, in bytes, unless the queue says otherwise.
pub(crate) const BODY_LIMIT: usize = 16 << 20;

use hopmq::Properties;

/// An error of any kind.
#[cfg(feature = "codec")]
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl crate::flow::Payload {
    /// Adds to the properties what says how the body is written.
    pub(crate) fn describe(&self, mut properties: Properties) -> Properties {
        if !self.content_type.is_empty() {
            properties = properties.with_content_type(&self.content_type);
        }
        if !self.content_encoding.is_empty() {
            properties = properties.with_content_encoding(&self.content_encoding);
        }
        properties
    }
}
