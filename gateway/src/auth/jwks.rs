//! The issuer's public keys (RFC 7517).

use std::fmt;
use std::path::Path;

use jsonwebtoken::jwk::JwkSet;

use super::fetch::{FetchError, Url};
use crate::config::ConfigError;

/// The reason that an issuer's keys cannot be used.
#[derive(Debug)]
pub(super) enum JwksError {
    Fetch(FetchError),
    NotJwks(serde_json::Error),
    NoKeys,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => write!(f, "{error}"),
            Self::NotJwks(error) => write!(f, "not a JWKS: {error}"),
            Self::NoKeys => f.write_str("the JWKS has no keys"),
        }
    }
}

impl std::error::Error for JwksError {}

/// Reads the file of `auth.jwt.jwks_file`.
pub(super) fn read(path: &Path) -> Result<JwkSet, ConfigError> {
    let setting = || "auth.jwt.jwks_file".to_owned();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        setting: setting(),
        path: path.to_owned(),
        error,
    })?;
    parse(&text).map_err(|error| ConfigError::File {
        setting: setting(),
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Fetches the keys by HTTP.
pub(super) async fn fetch(url: &Url) -> Result<JwkSet, JwksError> {
    parse(&url.fetch().await.map_err(JwksError::Fetch)?)
}

fn parse(text: &str) -> Result<JwkSet, JwksError> {
    let set: JwkSet = serde_json::from_str(text).map_err(JwksError::NotJwks)?;
    if set.keys.is_empty() { Err(JwksError::NoKeys) } else { Ok(set) }
}
