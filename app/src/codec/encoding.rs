//! Content encodings: compressed bodies, in both directions.

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(all(feature = "codec", feature = "gzip"))]
pub use gzip::Gzip;
#[cfg(all(feature = "codec", feature = "zstd"))]
pub use zstd::Zstd;

use crate::flow::Failure;

/// Returns what a body with this content encoding contains, at most `limit` bytes; `None` if that is the body itself.
///
/// A character set is no compression: several clients write `utf-8` or `binary`, alone or behind `gzip:`.
pub(crate) fn decode(encoding: &str, body: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut decoded = None;
    for name in encoding.split([',', ':']).map(str::trim) {
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        if is(&["", "identity", "binary", "utf-8", "utf8", "us-ascii", "ascii", "8bit", "7bit"]) {
            continue;
        }
        if decoded.is_some() {
            let text = format!("the content encoding is {encoding:?}, and bodies are decompressed once");
            return Err(Failure::new("content-encoding", text));
        }
        decoded = Some(if is(&["gzip", "x-gzip"]) {
            gzip(body, limit)?
        } else if is(&["zstd"]) {
            zstd(body, limit)?
        } else {
            let text = format!("the content encoding is {encoding:?}, and only gzip and zstd are decompressed");
            return Err(Failure::new("content-encoding", text));
        });
    }
    Ok(decoded)
}

#[cfg(feature = "gzip")]
use gzip::decompress as gzip;
#[cfg(feature = "zstd")]
use zstd::decompress as zstd;

#[cfg(not(feature = "gzip"))]
fn gzip(_: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
    Err(left_out("gzip"))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
    Err(left_out("zstd"))
}

#[cfg(not(all(feature = "gzip", feature = "zstd")))]
fn left_out(name: &str) -> Failure {
    let text = format!("the content encoding is {name}: build hopmq-app with its feature `{name}`");
    Failure::new("content-encoding", text)
}

/// Returns the failure for a body that is longer than the queue's limit.
pub(crate) fn oversized(limit: usize) -> Failure {
    let text = format!("the body has more than {limit} bytes, the queue's `body_limit`");
    Failure::new("oversized", text)
}

/// Reads all that a decompressor yields, at most `limit` bytes. Memory grows with what is read.
#[cfg(any(feature = "gzip", feature = "zstd"))]
fn read_all(name: &str, reader: impl std::io::Read, into: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    use std::io::Read;

    let more = (limit - into.len()) as u64 + 1;
    let read = reader.take(more).read_to_end(into);
    read.map_err(|error| Failure::new("decode", format!("the body is not {name}, or ends early: {error}")))?;
    if into.len() > limit { Err(oversized(limit)) } else { Ok(()) }
}

/// Makes the format and the body that compress what they contain.
#[cfg(all(feature = "codec", any(feature = "gzip", feature = "zstd")))]
macro_rules! compressed {
    ($name:ident, $encoding:literal, $compress:path) => {
        impl<C: crate::codec::Codec> crate::codec::Codec for $name<C> {
            const NAME: &'static str = C::NAME;

            fn reads(content_type: &str) -> bool {
                C::reads(content_type)
            }

            fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, crate::codec::BoxError> {
                C::read(body)
            }

            fn write<T: serde::Serialize + ?Sized>(value: &T) -> Result<crate::flow::Payload, crate::codec::BoxError> {
                C::write(value)?.compress($encoding, $compress)
            }
        }

        impl<B: crate::codec::IntoPayload> crate::codec::IntoPayload for $name<B> {
            fn into_payload(self) -> Result<crate::flow::Payload, crate::codec::BoxError> {
                self.0.into_payload()?.compress($encoding, $compress)
            }
        }
    };
}
#[cfg(all(feature = "codec", any(feature = "gzip", feature = "zstd")))]
use compressed;

#[cfg(all(feature = "codec", any(feature = "gzip", feature = "zstd")))]
impl crate::flow::Payload {
    /// Compresses the body, unless it is compressed already or would become longer.
    fn compress(
        self,
        encoding: &'static str,
        how: impl FnOnce(&[u8]) -> Result<Vec<u8>, super::BoxError>,
    ) -> Result<Self, super::BoxError> {
        if !self.content_encoding.is_empty() {
            return Ok(self);
        }
        let body = how(&self.body)?;
        if body.len() >= self.body.len() {
            return Ok(self);
        }
        Ok(Self { body: body.into(), content_encoding: encoding.into(), ..self })
    }
}
