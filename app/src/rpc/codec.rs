use serde::Serialize;
use serde::de::DeserializeOwned;

/// How arguments, results and errors of calls are written. Client and server of a service must use the same.
pub trait Codec: 'static {
    /// The `content-type` of messages.
    const CONTENT_TYPE: &'static str;

    /// Writes a value.
    ///
    /// # Errors
    /// The text of why it can't be written.
    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String>;

    /// Reads a value.
    ///
    /// # Errors
    /// The text of why it can't be read.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String>;
}

/// JSON: the codec of services that name no other.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
        serde_json::to_vec(value).map_err(|error| error.to_string())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}
