//! Verifies JSON Web Tokens (RFC 7519).
//!
//! The header of a token names an algorithm and a key, and any client can forge it. So the algorithm must be in the
//! settings, and the key must be of that algorithm's kind: `none` is never accepted, and a public key is never used as
//! a shared secret.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::claims::Claims;
use super::error::{AuthError, Credential, Flaw};
use super::fetch::Url;
use super::{clock, jwks, secret};
use crate::config::{self, ConfigError};
use hopmq_proto::printable;

/// The interval at which keys are fetched.
const REFRESH: Duration = Duration::from_secs(300);
/// The shortest interval, which applies when tokens name unknown keys.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// The default clock skew, in seconds.
const LEEWAY: u64 = 10;

/// The longest token, in bytes.
const TOKEN_MAX: usize = 16 << 10;

/// Verifies tokens with a shared secret or with the issuer's public keys.
pub(super) struct Verifier {
    secret: Option<DecodingKey>,
    keys: RwLock<JwkSet>,
    url: Option<Url>,
    /// Notified when a token names an unknown key.
    key_missing: Notify,
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
        let url = config.jwks_url.as_deref().map(Url::parse).transpose()?;
        let keys = config.jwks_file.as_deref().map(jwks::read).transpose()?;
        let sources = [secret.is_some(), url.is_some(), keys.is_some()];
        if sources.into_iter().filter(|is_set| *is_set).count() != 1 {
            let reason = "set exactly one of secret, secret_file, jwks_file and jwks_url";
            return Err(ConfigError::invalid("auth.jwt", reason));
        }
        for (setting, claim, value) in
            [("auth.jwt.issuer", "iss", &config.issuer), ("auth.jwt.audience", "aud", &config.audience)]
        {
            if value.is_empty() {
                return Err(ConfigError::missing(setting, format!("set the value that the claim {claim} must have")));
            }
        }
        Ok(Self {
            algorithms: algorithms(config, secret.is_some())?,
            secret: secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())),
            keys: RwLock::new(keys.unwrap_or_default()),
            url,
            key_missing: Notify::new(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway.map_or(LEEWAY, |time| time.0.as_secs()),
        })
    }

    /// Returns the allowed clock skew, in seconds.
    pub(super) fn leeway(&self) -> u64 {
        self.leeway
    }

    /// Returns the claims of a valid token.
    ///
    /// # Errors
    /// [`AuthError`] if the token is not valid.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        let header = header(token, Credential::Token)?;
        if !self.algorithms.contains(&header.alg) {
            let accepted = self.algorithms.clone();
            return Err(AuthError::AlgorithmNotAccepted { algorithm: header.alg, accepted });
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.leeway;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        if let Some(secret) = &self.secret {
            return decode(token, secret, &validation, Credential::Token);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = jwks::find(&keys, header.kid.as_deref(), header.alg).inspect_err(|error| {
            if *error == AuthError::KeyUnknown {
                self.key_missing.notify_one();
            }
        })?;
        let key = DecodingKey::from_jwk(key).map_err(|_| AuthError::KeyUnusable)?;
        decode(token, &key, &validation, Credential::Token)
    }

    /// Replaces the keys.
    pub(super) fn set_keys(&self, keys: JwkSet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Keeps the keys of the URL current. Never completes.
    pub(super) async fn refresh(&self) {
        let Some(url) = &self.url else { return std::future::pending().await };
        loop {
            match jwks::fetch(url).await {
                Ok(keys) => {
                    info!(%url, keys = keys.keys.len(), "fetched the issuer's keys");
                    self.set_keys(keys);
                }
                Err(error) => {
                    let error = error.to_string();
                    let error = &*printable(&error);
                    warn!(%url, error, "cannot fetch the issuer's keys; the previous keys stay in use");
                }
            }
            sleep(REFRESH_MIN).await;
            let _requested = timeout(REFRESH, self.key_missing.notified()).await;
        }
    }
}

/// Returns the header of a token or a ticket, which any client can have made up.
///
/// # Errors
/// [`AuthError`] if the header asks for what this gateway does not do (RFC 7515, section 4.1.11, and RFC 7797): to read
/// the token otherwise would be to read another one than its issuer signed.
pub(super) fn header(token: &str, credential: Credential) -> Result<Header, AuthError> {
    if token.len() > TOKEN_MAX {
        return Err(AuthError::TooLong { limit: TOKEN_MAX });
    }
    let header =
        jsonwebtoken::decode_header(token).map_err(|error| AuthError::Flawed(credential, Flaw::from(error.kind())))?;
    let fields = [
        ("crit", header.crit.is_some()),
        ("b64", header.extras.inner().contains_key("b64")),
        ("zip", header.zip.is_some()),
        ("enc", header.enc.is_some()),
    ];
    match fields.into_iter().find(|(_, is_there)| *is_there) {
        Some((field, _)) => Err(AuthError::HeaderNotAccepted { field }),
        None => Ok(header),
    }
}

/// Returns the claims if the signature and the times are valid. The caller has checked the [`header`].
pub(super) fn decode(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
    credential: Credential,
) -> Result<Claims, AuthError> {
    let flawed = |flaw| AuthError::Flawed(credential, flaw);
    let data = jsonwebtoken::decode::<serde_json::Value>(token, key, validation)
        .map_err(|error| flawed(Flaw::from(error.kind())))?;
    let claims = Claims::from(data.claims);
    let is_time = |name: &&str| !claims.contains(name) || claims.seconds(name).is_some();
    if let Some(name) = ["exp", "nbf", "iat"].into_iter().find(|name| !is_time(name)) {
        return Err(flawed(Flaw::Time(name.to_owned())));
    }
    if claims.seconds("iat").is_some_and(|issued| issued > clock::now().saturating_add(validation.leeway)) {
        return Err(AuthError::IssuedInFuture);
    }
    Ok(claims)
}

fn algorithms(config: &config::Jwt, has_secret: bool) -> Result<Vec<Algorithm>, ConfigError> {
    let default: &[Algorithm] = if has_secret { &[Algorithm::HS256] } else { &[Algorithm::RS256, Algorithm::ES256] };
    if config.algorithms.is_empty() {
        return Ok(default.to_vec());
    }
    let read = |name: &String| {
        let algorithm: Option<Algorithm> = name.parse().ok();
        algorithm.filter(|algorithm| (algorithm.family() == AlgorithmFamily::Hmac) == has_secret).ok_or_else(|| {
            let (source, allowed) = if has_secret {
                ("a shared secret", "HS256, HS384 or HS512")
            } else {
                ("public keys", "RS256, PS256, ES256, EdDSA or the like")
            };
            let reason = format!("`{name}` is not an algorithm for {source}; write {allowed}");
            ConfigError::invalid("auth.jwt.algorithms", reason)
        })
    };
    config.algorithms.iter().map(read).collect()
}
