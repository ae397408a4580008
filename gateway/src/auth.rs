//! Who people are, where the gateway decides that: by a token or a ticket, mapped to a user of RabbitMQ's and a policy.
//!
//! Comes in: the text of a token. Goes out: a [`Grant`], or a sentence that says why not. Nothing here is kept for a
//! token: whoever has a good one is let in, wherever they come.

mod claims;
pub(crate) mod clock;
mod fetch;
mod grant;
mod jwt;
mod pattern;
mod policy;
mod rule;
mod secret;
mod ticket;

use crate::config::{self, ConfigError};
use claims::Claims;
use clock::now;
pub(crate) use grant::Grant;
pub(crate) use policy::Operation;

/// Who is let in, and as whom.
#[derive(Debug)]
pub(crate) struct Auth {
    jwt: Option<jwt::Verifier>,
    ticket: Option<ticket::Verifier>,
    rules: Vec<rule::Rule>,
}

impl Auth {
    /// Reads keys and compiles policies; `None` if RabbitMQ decides about everybody.
    pub(crate) fn new(config: &config::Config) -> Result<Option<Self>, ConfigError> {
        let auth = &config.auth;
        if auth.jwt.is_none() && auth.ticket.is_none() {
            if auth.policy.is_empty() {
                return Ok(None);
            }
            return Err(ConfigError("auth.policy: policies need tokens: set [auth.jwt] or [auth.ticket]".to_owned()));
        }
        if auth.policy.is_empty() {
            return Err(ConfigError("auth.policy: nobody may do anything: write one [[auth.policy]]".to_owned()));
        }
        Ok(Some(Self {
            jwt: auth.jwt.as_ref().map(jwt::Verifier::new).transpose()?,
            ticket: auth.ticket.as_ref().map(ticket::Verifier::new).transpose()?,
            rules: rule::rules(&auth.policy, &config.limits)?,
        }))
    }

    /// Who the bearer of this URL's ticket is; `None` if a token is to come as the password.
    ///
    /// # Errors
    /// If there is no ticket where one is needed, or if it is not good: why.
    pub(crate) fn ticket(&self, query: &str) -> Result<Option<Grant>, String> {
        let Some(verifier) = &self.ticket else { return Ok(None) };
        match verifier.find(query) {
            Some(ticket) => Ok(Some(self.grant(&verifier.verify(&ticket, now())?, None)?)),
            None if self.jwt.is_some() => Ok(None),
            None => Err(format!("a ticket is needed: the parameter {} of the URL", verifier.parameter())),
        }
    }

    /// Who the bearer of this token is.
    ///
    /// # Errors
    /// If it is not good: why.
    pub(crate) fn token(&self, token: &str) -> Result<Grant, String> {
        let Some(verifier) = &self.jwt else { return Err("no tokens are taken here, but tickets".to_owned()) };
        let claims = verifier.verify(token)?;
        let expires = claims.seconds("exp").map(|time| time + verifier.leeway());
        self.grant(&claims, expires)
    }

    fn grant(&self, claims: &Claims, expires: Option<u64>) -> Result<Grant, String> {
        let subject = claims.text("sub").ok_or("the token does not say whose it is (sub)")?;
        let rule = self.rules.iter().find(|rule| rule.holds(claims));
        let rule = rule.ok_or("no policy is for the bearer of this token")?;
        rule.grant(subject, claims, expires)
    }

    /// Keeps the keys of `jwks_url` current for ever.
    pub(crate) async fn refresh(&self) {
        match &self.jwt {
            Some(jwt) => jwt.refresh().await,
            None => std::future::pending().await,
        }
    }
}
