//! Verifies signed tickets in the URL, for pages that cannot keep a token.
//!
//! A ticket is a JSON Web Token with HS256 and the audience `hopmq-gateway`. It is valid for at most a minute, because
//! URLs end up in logs and histories.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::claims::Claims;
use super::error::{AuthError, Credential};
use super::{jwt, secret};
use crate::config::{self, ConfigError};

/// The required audience (`aud`).
const AUDIENCE: &str = "hopmq-gateway";
/// The longest lifetime of a ticket, in seconds.
const MAX_AGE: u64 = 60;
/// The allowed clock skew, in seconds.
const LEEWAY: u64 = 5;

/// Verifies tickets.
pub(super) struct Verifier {
    key: DecodingKey,
    max_age: u64,
    parameter: String,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(config: &config::Ticket) -> Result<Self, ConfigError> {
        let secret = secret::read("auth.ticket.secret", config.secret.as_ref(), config.secret_file.as_ref())?
            .ok_or_else(|| ConfigError::missing("auth.ticket.secret", "set it or auth.ticket.secret_file"))?;
        let secret = secret::long_enough("auth.ticket.secret", secret)?;
        let max_age = config.max_age.map_or(MAX_AGE, |time| time.0.as_secs());
        if !(1..=MAX_AGE).contains(&max_age) {
            return Err(ConfigError::OutOfRange {
                setting: "auth.ticket.max_age".to_owned(),
                value: format!("{max_age}s"),
                allowed: format!("from 1s to {MAX_AGE}s, because URLs end up in logs"),
            });
        }
        let parameter = config.parameter.clone().unwrap_or_else(|| "ticket".to_owned());
        Ok(Self { key: DecodingKey::from_secret(secret.as_bytes()), max_age, parameter })
    }

    /// Returns the name of the URL parameter.
    pub(super) fn parameter(&self) -> &str {
        &self.parameter
    }

    /// Returns the ticket in the query of a URL.
    pub(super) fn find(&self, query: &str) -> Option<String> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == self.parameter).map(|(_, value)| value.to_owned())
    }

    /// Returns the claims of a valid ticket.
    ///
    /// # Errors
    /// [`AuthError`] if the ticket is not valid.
    pub(super) fn verify(&self, ticket: &str) -> Result<Claims, AuthError> {
        jwt::header(ticket, Credential::Ticket)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let claims = jwt::decode(ticket, &self.key, &validation, Credential::Ticket)?;
        let issued = claims.seconds("iat").ok_or(AuthError::IssueTimeMissing)?;
        // `jwt::decode` has checked that `exp` is there.
        let expires = claims.seconds("exp").unwrap_or(u64::MAX);
        if expires.saturating_sub(issued) > self.max_age {
            return Err(AuthError::LifetimeTooLong { seconds: self.max_age });
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::super::error::Flaw;
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn verify(claims: serde_json::Value) -> Result<(), AuthError> {
        let config = config::Ticket { secret: Some(config::Secret(SECRET.into())), ..Default::default() };
        let verifier = Verifier::new(&config).unwrap();
        let ticket = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert_eq!(verifier.find(&format!("a=b&ticket={ticket}&c=d")), Some(ticket.clone()));
        verifier.verify(&ticket).map(drop)
    }

    #[test]
    fn a_ticket_is_valid_for_at_most_a_minute() {
        let now = crate::auth::clock::now();
        let ticket = |iat: u64, exp: u64, aud: &str| json!({"sub": "alice", "aud": aud, "iat": iat, "exp": exp});
        assert_eq!(verify(ticket(now, now + 60, "hopmq-gateway")), Ok(()));
        let flawed = |flaw| AuthError::Flawed(Credential::Ticket, flaw);
        for (claims, expected) in [
            (ticket(now, now + 61, "hopmq-gateway"), AuthError::LifetimeTooLong { seconds: 60 }),
            (ticket(now - 60, now - 10, "hopmq-gateway"), flawed(Flaw::Expired)),
            (ticket(now + 100, now + 120, "hopmq-gateway"), AuthError::IssuedInFuture),
            (ticket(now, now + 60, "another-service"), flawed(Flaw::Audience)),
            (json!({"sub": "alice", "aud": "hopmq-gateway", "exp": now + 60}), AuthError::IssueTimeMissing),
            (json!({"sub": "alice", "aud": "hopmq-gateway", "iat": now}), flawed(Flaw::ClaimMissing("exp".into()))),
            (json!({"aud": "hopmq-gateway", "iat": now, "exp": now + 60}), flawed(Flaw::ClaimMissing("sub".into()))),
        ] {
            assert_eq!(verify(claims), Err(expected));
        }
    }

    #[test]
    fn settings_that_make_tickets_unsafe_are_refused() {
        let config = |age, secret: &str| config::Ticket {
            max_age: Some(config::Time(std::time::Duration::from_secs(age))),
            secret: Some(config::Secret(secret.into())),
            ..Default::default()
        };
        assert!(Verifier::new(&config(61, SECRET)).unwrap_err().to_string().starts_with("auth.ticket.max_age"));
        assert!(Verifier::new(&config(60, "short")).unwrap_err().to_string().starts_with("auth.ticket.secret"));
        assert!(Verifier::new(&config::Ticket::default()).is_err());
    }
}
