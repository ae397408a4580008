//! The issuer's public keys (RFC 7517).

use std::fmt;
use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::error::AuthError;
use super::fetch::{FetchError, Url};
use crate::config::ConfigError;

/// The largest number of keys; a login looks at each.
const KEYS_MAX: usize = 256;

/// The reason that an issuer's keys cannot be used.
#[derive(Debug)]
pub(super) enum JwksError {
    Fetch(FetchError),
    NotJwks(serde_json::Error),
    NoKeys,
    TooManyKeys,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => write!(f, "{error}"),
            Self::NotJwks(error) => write!(f, "not a JWKS: {error}"),
            Self::TooManyKeys => write!(f, "the JWKS has more than {KEYS_MAX} keys"),
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

pub(super) fn parse(text: &str) -> Result<JwkSet, JwksError> {
    let set: JwkSet = serde_json::from_str(text).map_err(JwksError::NotJwks)?;
    match set.keys.len() {
        0 => Err(JwksError::NoKeys),
        1..=KEYS_MAX => Ok(set),
        _ => Err(JwksError::TooManyKeys),
    }
}

/// Returns the key that verifies a token of this algorithm: the only one of the name, or the only one if the token
/// names none. Keys for encryption, for another algorithm or without the operation `verify` are passed over.
///
/// # Errors
/// [`AuthError`] if there is no such key, or more than one.
pub(super) fn find<'a>(set: &'a JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Result<&'a Jwk, AuthError> {
    let is_named = |key: &&Jwk| kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid));
    let mut reason = AuthError::KeyUnknown;
    let mut found = None;
    for key in set.keys.iter().filter(is_named) {
        match (fits(key, algorithm), found) {
            (Err(unfit), None) => reason = unfit,
            (Err(_), Some(_)) => {}
            (Ok(()), None) => found = Some(key),
            (Ok(()), Some(_)) if kid.is_none() => return Err(AuthError::KeyNotNamed),
            (Ok(()), Some(_)) => return Err(AuthError::KeyAmbiguous),
        }
    }
    found.ok_or(reason)
}

/// Checks that a key may verify signatures of this algorithm.
fn fits(key: &Jwk, algorithm: Algorithm) -> Result<(), AuthError> {
    let is_of_family = matches!(
        (&key.algorithm, algorithm.family()),
        (AlgorithmParameters::RSA(_), AlgorithmFamily::Rsa)
            | (AlgorithmParameters::EllipticCurve(_), AlgorithmFamily::Ec)
            | (AlgorithmParameters::OctetKeyPair(_), AlgorithmFamily::Ed)
    );
    let named = key.common.key_algorithm;
    if !is_of_family || named.is_some_and(|named| named != KeyAlgorithm::from(algorithm)) {
        return Err(AuthError::KeyOfOtherAlgorithm);
    }
    let is_for_signatures =
        key.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let verifies =
        key.common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if is_for_signatures && verifies { Ok(()) } else { Err(AuthError::KeyUnusable) }
}
