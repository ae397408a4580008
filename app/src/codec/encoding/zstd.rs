use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
#[cfg(feature = "codec")]
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

#[cfg(feature = "codec")]
use super::compressed;
use super::{oversized, read_all};
#[cfg(feature = "codec")]
use crate::codec::{BoxError, Json};
use crate::flow::Failure;

/// A window that each decoder should accept (RFC 8878, section 3.1.1.1.2): also short bodies may be sent with it.
const WINDOW: u64 = 8 << 20;

/// Sends bodies with the content encoding `zstd`. Needs the feature `zstd`. Extractors decompress by themselves.
///
/// A format, as in `Out<Receipt, Zstd>` for JSON or `Out<Receipt, Zstd<MsgPack>>`, and a body, as in
/// `Reply(Zstd(report))`. A body that would not become shorter is sent as it is. It is compressed fast rather than
/// well.
#[cfg(feature = "codec")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zstd<C = Json>(pub C);

#[cfg(feature = "codec")]
compressed!(Zstd, "zstd", compress);

#[cfg(feature = "codec")]
fn compress(body: &[u8]) -> Result<Vec<u8>, BoxError> {
    Ok(compress_to_vec(body, CompressionLevel::Fastest))
}

/// Decompresses all frames. A decoder keeps a window before it yields anything, so the window is limited as well.
pub(super) fn decompress(mut body: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let window = (limit as u64).max(WINDOW);
    let mut decoded = Vec::new();
    if body.is_empty() {
        return Err(broken("the body is empty"));
    }
    while !body.is_empty() {
        let mut frame = match StreamingDecoder::new_with_max_window_size(&mut body, window) {
            Ok(frame) => frame,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                body = usize::try_from(length)
                    .ok()
                    .and_then(|length| body.get(length..))
                    .ok_or_else(|| broken("it ends early"))?;
                continue;
            }
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Err(oversized(limit)),
            Err(error) => return Err(broken(error)),
        };
        read_all("zstd", &mut frame, &mut decoded, limit)?;
        check(&frame.into_frame_decoder())?;
    }
    Ok(decoded)
}

/// Compares the checksums, if the frame has one.
fn check(frame: &FrameDecoder) -> Result<(), Failure> {
    match (frame.get_checksum_from_data(), frame.get_calculated_checksum()) {
        (Some(sent), Some(found)) if sent != found => Err(broken("the checksum differs")),
        _ => Ok(()),
    }
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::new("decode", format!("the body is not zstd, or ends early: {why}"))
}
