//! Signed tickets in the URL: for pages that cannot keep a token.
//!
//! A ticket is a JSON Web Token by HS256 for the audience `hopmq-gateway` that lives for a minute at most: URLs end up
//! in logs and histories, so what is in one must be worth nothing soon.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::claims::Claims;
use super::{jwt, secret};
use crate::config::{self, ConfigError};

/// What a ticket is for.
const AUDIENCE: &str = "hopmq-gateway";
/// How long any ticket may live, in seconds.
const MAX_AGE: u64 = 60;
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 5;

/// Checks tickets.
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
            .ok_or_else(|| ConfigError("auth.ticket.secret: set it, or auth.ticket.secret_file".to_owned()))?;
        let secret = secret::long_enough("auth.ticket.secret", secret)?;
        let max_age = config.max_age.map_or(MAX_AGE, |time| time.0.as_secs());
        if !(1..=MAX_AGE).contains(&max_age) {
            return Err(ConfigError(format!("auth.ticket.max_age: from 1s to {MAX_AGE}s, for URLs are written down")));
        }
        let parameter = config.parameter.clone().unwrap_or_else(|| "ticket".to_owned());
        Ok(Self { key: DecodingKey::from_secret(secret.as_bytes()), max_age, parameter })
    }

    pub(super) fn parameter(&self) -> &str {
        &self.parameter
    }

    /// The ticket in the query of a URL.
    pub(super) fn find(&self, query: &str) -> Option<String> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == self.parameter).map(|(_, value)| value.to_owned())
    }

    /// The claims of a good ticket.
    ///
    /// # Errors
    /// If it is not: why, in words without the ticket.
    pub(super) fn verify(&self, ticket: &str, now: u64) -> Result<Claims, String> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let claims = jwt::decode(ticket, &self.key, &validation, "ticket")?;
        let (Some(issued), Some(expires)) = (claims.seconds("iat"), claims.seconds("exp")) else {
            return Err("the ticket does not say when it was issued (iat)".to_owned());
        };
        if issued > now + LEEWAY {
            return Err("the ticket was issued in the future: do the clocks agree?".to_owned());
        }
        if expires.saturating_sub(issued) > self.max_age {
            return Err(format!("the ticket lives for more than {} s", self.max_age));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn verify(claims: serde_json::Value) -> Result<(), String> {
        let config = config::Ticket { secret: Some(config::Secret(SECRET.into())), ..Default::default() };
        let verifier = Verifier::new(&config).unwrap();
        let ticket = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert_eq!(verifier.find(&format!("a=b&ticket={ticket}&c=d")), Some(ticket.clone()));
        verifier.verify(&ticket, crate::auth::clock::now()).map(drop)
    }

    #[test]
    fn a_ticket_is_good_for_a_minute_at_most() {
        let now = crate::auth::clock::now();
        let ticket = |iat: u64, exp: u64, aud: &str| json!({"sub": "alice", "aud": aud, "iat": iat, "exp": exp});
        assert_eq!(verify(ticket(now, now + 60, "hopmq-gateway")), Ok(()));
        for (claims, why) in [
            (ticket(now, now + 61, "hopmq-gateway"), "lives for more than 60 s"),
            (ticket(now - 60, now - 10, "hopmq-gateway"), "has expired"),
            (ticket(now + 100, now + 120, "hopmq-gateway"), "in the future"),
            (ticket(now, now + 60, "somebody-else"), "is not for"),
            (json!({"sub": "alice", "aud": "hopmq-gateway", "exp": now + 60}), "when it was issued"),
            (json!({"aud": "hopmq-gateway", "iat": now, "exp": now + 60}), "sub"),
        ] {
            let error = verify(claims).unwrap_err();
            assert!(error.contains(why), "{error} does not say {why}");
        }
    }

    #[test]
    fn settings_are_held_to_it() {
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
