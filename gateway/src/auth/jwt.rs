//! JSON Web Tokens: whose signature is believed, and why others are not.
//!
//! The header of a token names its algorithm and its key, and is the bearer's word. So the algorithm must be one that
//! the settings list, and the key must be of that algorithm's kind: `none` is never taken, nor a public key as a shared
//! secret.

use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::claims::Claims;
use super::{fetch, secret};
use crate::config::{self, ConfigError};

/// How often keys are fetched, and how soon again when a token names an unknown one.
const REFRESH: Duration = Duration::from_secs(300);
const SOONEST: Duration = Duration::from_secs(10);
/// How far clocks may differ unless the settings say so, in seconds.
const LEEWAY: u64 = 10;

/// Checks tokens.
pub(super) struct Verifier {
    secret: Option<DecodingKey>,
    keys: RwLock<JwkSet>,
    url: Option<fetch::Url>,
    /// A token named a key that is not there.
    missed: Notify,
    algorithms: Vec<Algorithm>,
    issuer: String,
    audience: String,
    leeway: u64,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(config: &config::Jwt) -> Result<Self, ConfigError> {
        let secret = secret::read("auth.jwt.secret", config.secret.as_ref(), config.secret_file.as_ref())?;
        let secret = secret.map(|secret| secret::long_enough("auth.jwt.secret", secret)).transpose()?;
        let url = config.jwks_url.as_deref().map(fetch::Url::parse).transpose()?;
        let keys = config.jwks_file.as_deref().map(read_keys).transpose()?;
        if [secret.is_some(), url.is_some(), keys.is_some()].into_iter().filter(|source| *source).count() != 1 {
            return Err(ConfigError("auth.jwt: set one of secret, secret_file, jwks_file and jwks_url".to_owned()));
        }
        for (key, value) in [("issuer", &config.issuer), ("audience", &config.audience)] {
            if value.is_empty() {
                return Err(ConfigError(format!("auth.jwt.{key}: set what the token's claim must be")));
            }
        }
        Ok(Self {
            algorithms: algorithms(config, secret.is_some())?,
            secret: secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())),
            keys: RwLock::new(keys.unwrap_or_default()),
            url,
            missed: Notify::new(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway.map_or(LEEWAY, |time| time.0.as_secs()),
        })
    }

    /// How far clocks may differ, in seconds.
    pub(super) fn leeway(&self) -> u64 {
        self.leeway
    }

    /// The claims of a good token.
    ///
    /// # Errors
    /// If it is not: why, in words without the token.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| explain(error.kind(), "token"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(format!("the token is signed by {:?}, and {:?} is taken", header.alg, self.algorithms));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.leeway;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        if let Some(secret) = &self.secret {
            return decode(token, secret, &validation, "token");
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = match &header.kid {
            Some(kid) => keys.find(kid),
            None if keys.keys.len() == 1 => keys.keys.first(),
            None => return Err("the token does not name its key (kid), and there are several".to_owned()),
        };
        let Some(key) = key else {
            self.missed.notify_one();
            return Err("the token is signed with a key that is not known (kid)".to_owned());
        };
        if key.common.key_algorithm.is_some_and(|algorithm| algorithm.to_string() != format!("{:?}", header.alg)) {
            return Err("the token's algorithm is not its key's".to_owned());
        }
        let key = DecodingKey::from_jwk(key).map_err(|_| "the token's key can't be used".to_owned())?;
        decode(token, &key, &validation, "token")
    }

    /// Keeps the keys of the URL current for ever.
    pub(super) async fn refresh(&self) {
        let Some(url) = &self.url else { return std::future::pending().await };
        loop {
            match url.fetch().await.and_then(|text| parse_keys(&text)) {
                Ok(keys) => {
                    info!(%url, keys = keys.keys.len(), "keys fetched");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
                }
                // Those of before are as good as they were.
                Err(error) => warn!(%url, error, "auth.jwt.jwks_url: no keys can be fetched"),
            }
            sleep(SOONEST).await;
            let _asked_for = timeout(REFRESH, self.missed.notified()).await;
        }
    }
}

/// The claims, if signature and times are good.
pub(super) fn decode(token: &str, key: &DecodingKey, validation: &Validation, what: &str) -> Result<Claims, String> {
    match jsonwebtoken::decode::<serde_json::Value>(token, key, validation) {
        Ok(data) => Ok(Claims::from(data.claims)),
        Err(error) => Err(explain(error.kind(), what)),
    }
}

/// What is wrong with a token, in words that hold nothing of it.
fn explain(kind: &ErrorKind, what: &str) -> String {
    let why = match kind {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet (nbf)",
        ErrorKind::InvalidAudience => "is not for this service (aud)",
        ErrorKind::InvalidIssuer => "is of another issuer (iss)",
        ErrorKind::InvalidSignature => "has a signature that is not right",
        ErrorKind::InvalidAlgorithm => "is signed by an algorithm that is not its key's",
        ErrorKind::MissingRequiredClaim(claim) => return format!("the {what} lacks the claim {claim}"),
        ErrorKind::Json(error) if error.to_string().contains("`none`") => "is not signed (none)",
        _ => "is no JSON Web Token that can be read",
    };
    format!("the {what} {why}")
}

fn algorithms(config: &config::Jwt, shared: bool) -> Result<Vec<Algorithm>, ConfigError> {
    let allowed = if shared { "HS256, HS384 and HS512" } else { "RS256, PS256, ES256, EdDSA and the like" };
    let default: &[Algorithm] = if shared { &[Algorithm::HS256] } else { &[Algorithm::RS256, Algorithm::ES256] };
    if config.algorithms.is_empty() {
        return Ok(default.to_vec());
    }
    let read = |name: &String| {
        let algorithm: Option<Algorithm> = name.parse().ok();
        algorithm.filter(|algorithm| (algorithm.family() == AlgorithmFamily::Hmac) == shared).ok_or_else(|| {
            let source = if shared { "a shared secret" } else { "public keys" };
            ConfigError(format!("auth.jwt.algorithms: `{name}` is none of {source}, which are {allowed}"))
        })
    };
    config.algorithms.iter().map(read).collect()
}

fn read_keys(path: &Path) -> Result<JwkSet, ConfigError> {
    let wrong = |error: String| ConfigError(format!("auth.jwt.jwks_file: {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse_keys(&text).map_err(wrong)
}

fn parse_keys(text: &str) -> Result<JwkSet, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))?;
    if set.keys.is_empty() { Err("there is no key in it".to_owned()) } else { Ok(set) }
}
