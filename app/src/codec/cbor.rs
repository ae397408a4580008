use ciborium::de::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxError, Codec, Format, typed};
use crate::flow::Payload;

/// As deep as serde_json: a body must not overflow the stack.
const DEPTH: usize = 128;

/// The body, read from CBOR (RFC 8949) or written as CBOR. Needs the feature `cbor`.
///
/// It reads bodies with the content type `application/cbor` or one that ends in `+cbor`, or without one. For the rest
/// it is as [`Json`](crate::Json).
///
/// ```
/// use hopmq_app::{Cbor, Out};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Reading {
///     celsius: f64,
/// }
///
/// async fn on_reading(Cbor(reading): Cbor<Reading>, out: Out<Reading, Cbor>) -> hopmq::Result<()> {
///     out.publish_to("weather", "celsius", &reading).await
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cbor<T = Format>(pub T);

impl Codec for Cbor {
    const NAME: &'static str = "CBOR";

    fn reads(content_type: &str) -> bool {
        content_type == "application/cbor" || content_type.ends_with("+cbor")
    }

    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BoxError> {
        let mut rest = body;
        let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH).map_err(|error| match error {
            Error::Io(_) => "the body ends early".into(),
            Error::Syntax(at) => format!("no CBOR at byte {at}"),
            Error::Semantic(Some(at), text) => format!("{text} at byte {at}"),
            Error::Semantic(None, text) => text,
            Error::RecursionLimitExceeded => format!("more than {DEPTH} values in each other"),
        })?;
        if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes follow the value", rest.len()).into()) }
    }

    fn write<T: Serialize + ?Sized>(value: &T) -> Result<Payload, BoxError> {
        let mut body = Vec::new();
        ciborium::into_writer(value, &mut body)?;
        Ok(Payload::new(body, "application/cbor"))
    }
}

typed::body!(Cbor);
