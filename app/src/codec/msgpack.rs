use rmp_serde::decode::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxError, Codec, Format, typed};
use crate::flow::Payload;

/// As deep as serde_json: a body must not overflow the stack.
const DEPTH: usize = 128;

/// The body, read from MessagePack or written as MessagePack. Needs the feature `msgpack`.
///
/// It reads bodies with the content type `application/msgpack`, `application/x-msgpack` or `application/vnd.msgpack`,
/// or without one; structures may be maps or lists. It writes structures as maps, with the names of the fields. For
/// the rest it is as [`Json`](crate::Json).
///
/// ```
/// use hopmq_app::{MsgPack, Out, Reply};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Reading {
///     celsius: f64,
/// }
///
/// async fn on_reading(MsgPack(reading): MsgPack<Reading>, out: Out<Reading, MsgPack>) -> hopmq::Result<()> {
///     out.publish_to("weather", "celsius", &reading).await
/// }
///
/// async fn last_reading() -> Reply<MsgPack<Reading>> {
///     Reply(MsgPack(Reading { celsius: 21.5 }))
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsgPack<T = Format>(pub T);

impl Codec for MsgPack {
    const NAME: &'static str = "MessagePack";

    fn reads(content_type: &str) -> bool {
        matches!(content_type, "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack")
            || content_type.ends_with("+msgpack")
    }

    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BoxError> {
        let mut rest = std::io::Cursor::new(body);
        let mut reader = rmp_serde::Deserializer::new(&mut rest);
        reader.set_max_depth(DEPTH);
        let value = T::deserialize(&mut reader).map_err(|error| match error {
            Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "the body ends early".into(),
            error => BoxError::from(error),
        })?;
        match rest.position() {
            read if read == body.len() as u64 => Ok(value),
            read => Err(format!("{} bytes follow the value", body.len() as u64 - read).into()),
        }
    }

    fn write<T: Serialize + ?Sized>(value: &T) -> Result<Payload, BoxError> {
        Ok(Payload::new(rmp_serde::to_vec_named(value)?, "application/msgpack"))
    }
}

typed::body!(MsgPack);
