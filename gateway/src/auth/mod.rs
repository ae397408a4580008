//! Authentication by the gateway: a token or a ticket is mapped to a RabbitMQ user and a policy.
//!
//! Takes the text of a token and returns a [`Grant`] or the reason to refuse the token. No state is kept per token, so
//! a valid token can be used any number of times.

mod claims;
pub(crate) mod clock;
pub(crate) mod denied;
pub(crate) mod error;
mod fetch;
mod grant;
mod jwks;
mod jwt;
mod pattern;
mod policy;
mod rule;
mod secret;
#[cfg(test)]
mod tests;
mod ticket;

use crate::config::{self, ConfigError};
use claims::Claims;
use error::{AuthError, Credential, Flaw};
pub(crate) use grant::Grant;
pub(crate) use policy::Operation;

/// Verifies tokens and tickets, and maps them to grants.
#[derive(Debug)]
pub(crate) struct Auth {
    jwt: Option<jwt::Verifier>,
    ticket: Option<ticket::Verifier>,
    rules: Vec<rule::Rule>,
}

impl Auth {
    /// Reads the keys and checks the policies. Returns `None` if RabbitMQ authenticates all clients.
    pub(crate) fn new(config: &config::Config) -> Result<Option<Self>, ConfigError> {
        let auth = &config.auth;
        if auth.jwt.is_none() && auth.ticket.is_none() {
            if auth.policy.is_empty() {
                return Ok(None);
            }
            let reason = "policies need tokens or tickets; set [auth.jwt] or [auth.ticket]";
            return Err(ConfigError::invalid("auth.policy", reason));
        }
        if auth.policy.is_empty() {
            let advice = "without one, nothing is allowed; write at least one [[auth.policy]]";
            return Err(ConfigError::missing("auth.policy", advice));
        }
        Ok(Some(Self {
            jwt: auth.jwt.as_ref().map(jwt::Verifier::new).transpose()?,
            ticket: auth.ticket.as_ref().map(ticket::Verifier::new).transpose()?,
            rules: rule::rules(&auth.policy, &config.limits)?,
        }))
    }

    /// Verifies the ticket in the query of a URL. Returns `None` if the client must send a token as its password.
    ///
    /// # Errors
    /// [`AuthError`] if a required ticket is missing, or if the ticket is not valid.
    pub(crate) fn ticket(&self, query: &str) -> Result<Option<Grant>, AuthError> {
        let Some(verifier) = &self.ticket else { return Ok(None) };
        match verifier.find(query) {
            Some(ticket) => Ok(Some(self.grant(&verifier.verify(&ticket)?, None)?)),
            None if self.jwt.is_some() => Ok(None),
            None => Err(AuthError::TicketMissing { parameter: verifier.parameter().to_owned() }),
        }
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// [`AuthError`] if the token is not valid.
    pub(crate) fn token(&self, token: &str) -> Result<Grant, AuthError> {
        let verifier = self.jwt.as_ref().ok_or(AuthError::TokensNotAccepted)?;
        let claims = verifier.verify(token)?;
        let expires = claims.seconds("exp").map(|time| time.saturating_add(verifier.leeway()));
        self.grant(&claims, expires)
    }

    /// Verifies what `connection.update-secret` brings after a login by ticket: a token or another ticket.
    ///
    /// # Errors
    /// [`AuthError`] if it is neither.
    pub(crate) fn newer(&self, secret: &str) -> Result<Grant, AuthError> {
        let by_token = self.token(secret);
        let Some(verifier) = &self.ticket else { return by_token };
        by_token.or_else(|error| match verifier.verify(secret) {
            Ok(claims) => self.grant(&claims, None),
            Err(flaw) if self.jwt.is_none() => Err(flaw),
            Err(_) => Err(error),
        })
    }

    fn grant(&self, claims: &Claims, expires: Option<u64>) -> Result<Grant, AuthError> {
        let no_subject = || AuthError::Flawed(Credential::Token, Flaw::ClaimMissing("sub".to_owned()));
        let subject = pattern::name("sub", claims).map_err(|claim| policy::unfit("limits", claim))?;
        let subject = subject.ok_or_else(no_subject)?;
        let rule = self.rules.iter().find(|rule| rule.matches(claims)).ok_or(AuthError::NoPolicy)?;
        rule.grant(subject, claims, expires)
    }

    /// Keeps the keys of `jwks_url` current. Never completes.
    pub(crate) async fn refresh(&self) {
        match &self.jwt {
            Some(jwt) => jwt.refresh().await,
            None => std::future::pending().await,
        }
    }
}
