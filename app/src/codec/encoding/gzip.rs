#[cfg(feature = "codec")]
use std::io::Write;

use flate2::bufread::MultiGzDecoder;

#[cfg(feature = "codec")]
use super::compressed;
use super::read_all;
#[cfg(feature = "codec")]
use crate::codec::{BoxError, Json};
use crate::flow::Failure;

/// Sends bodies with the content encoding `gzip`. Needs the feature `gzip`. Extractors decompress by themselves.
///
/// A format, as in `Out<Receipt, Gzip>` for JSON or `Out<Receipt, Gzip<MsgPack>>`, and a body, as in
/// `Reply(Gzip(report))`. A body that would not become shorter is sent as it is.
///
/// ```
/// use hopmq_app::{Gzip, Out, Reply, Text};
///
/// async fn on_question(Text(name): Text, copies: Out<String, Gzip>) -> hopmq::Result<Reply<Gzip<String>>> {
///     let report = format!("the long report of {name}");
///     copies.publish_to("", "reports", &report).await?;
///     Ok(Reply(Gzip(report)))
/// }
/// ```
#[cfg(feature = "codec")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gzip<C = Json>(pub C);

#[cfg(feature = "codec")]
compressed!(Gzip, "gzip", compress);

#[cfg(feature = "codec")]
fn compress(body: &[u8]) -> Result<Vec<u8>, BoxError> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut decoded = Vec::new();
    read_all("gzip", MultiGzDecoder::new(body), &mut decoded, limit)?;
    Ok(decoded)
}
