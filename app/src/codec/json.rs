use super::Format;
#[cfg(feature = "json")]
use super::{BoxError, Codec, typed};
#[cfg(feature = "json")]
use crate::flow::Payload;

/// The body, read from JSON or written as JSON. Needs the feature `json`, which is a default one.
///
/// As an argument of a handler it reads a body with the content type `application/json`, `text/json` or one that ends
/// in `+json` (RFC 6839), or without a content type. Another content type, and a body that can't be read, go to the
/// dead letters with the place of the error. `Option<Json<T>>` is `None` for an empty body only.
///
/// Without a type it is the format, for [`Out`](crate::Out): `Out<Receipt, Json>`.
///
/// ```
/// use hopmq_app::Json;
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// async fn on_order(Json(order): Json<Order>) {
///     println!("the order {}", order.id);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T = Format>(pub T);

#[cfg(feature = "json")]
impl Codec for Json {
    const NAME: &'static str = "JSON";

    fn reads(content_type: &str) -> bool {
        matches!(content_type, "application/json" | "text/json") || content_type.ends_with("+json")
    }

    fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(body)?)
    }

    fn write<T: serde::Serialize + ?Sized>(value: &T) -> Result<Payload, BoxError> {
        Ok(Payload::new(serde_json::to_vec(value)?, "application/json"))
    }
}

#[cfg(feature = "json")]
typed::body!(Json);
