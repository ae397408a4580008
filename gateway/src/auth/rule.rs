//! The policies of the settings: which claims each one matches, and which RabbitMQ user it stands for.

use super::claims::Claims;
use super::error::AuthError;
use super::grant::Grant;
use super::pattern::{self, fill};
use super::policy::{Policy, unfit};
use super::secret;
use crate::admission::limits::Rates;
use crate::config::{self, ConfigError, Route};

/// One `[[auth.policy]]`.
#[derive(Debug)]
pub(super) struct Rule {
    config: config::Policy,
    password: Password,
    rates: Rates,
}

struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

pub(super) fn rules(policies: &[config::Policy], limits: &config::Limits) -> Result<Vec<Rule>, ConfigError> {
    policies.iter().enumerate().map(|(index, policy)| Rule::new(index, policy, limits)).collect()
}

impl Rule {
    fn new(index: usize, policy: &config::Policy, limits: &config::Limits) -> Result<Self, ConfigError> {
        let setting = |key: &str| format!("auth.policy[{index}].{key}");
        if policy.username.is_empty() {
            return Err(ConfigError::missing(setting("username"), "set the RabbitMQ user"));
        }
        let password = secret::read(&setting("password"), policy.password.as_ref(), policy.password_file.as_ref())?
            .ok_or_else(|| ConfigError::missing(setting("password"), "set it or password_file"))?;
        for (key, text) in patterns(policy) {
            pattern::check(text).map_err(|error| ConfigError::invalid(setting(key), error.to_string()))?;
        }
        let rates = Rates {
            messages: policy.messages_per_second.unwrap_or(limits.messages_per_second),
            bytes: policy.bytes_per_second.unwrap_or(limits.bytes_per_second).0,
        };
        Ok(Self { config: policy.clone(), password: Password(password), rates })
    }

    /// Whether the policy is for the bearer of these claims.
    pub(super) fn matches(&self, claims: &Claims) -> bool {
        self.config.when.iter().all(|(claim, wanted)| claims.has(claim, wanted))
    }

    /// Fills the claims into the policy.
    pub(super) fn grant(&self, subject: String, claims: &Claims, expires: Option<u64>) -> Result<Grant, AuthError> {
        let config = &self.config;
        let missing = |setting: &'static str| AuthError::PolicyClaimMissing { setting };
        let filled = |setting, template: &str| {
            let text = fill(template, claims).map_err(|claim| unfit(setting, claim))?;
            text.ok_or_else(|| missing(setting))
        };
        Ok(Grant {
            subject,
            username: filled("username", &config.username)?,
            password: self.password.0.clone(),
            vhost: filled("vhost", config.vhost.as_deref().unwrap_or("/"))?,
            policy: Policy::new(config, claims)?,
            rates: self.rates,
            expires,
        })
    }
}

/// Returns all texts of a policy that may contain claims, with their keys.
fn patterns(policy: &config::Policy) -> impl Iterator<Item = (&'static str, &String)> {
    let routes = [("publish", &policy.publish), ("bind", &policy.bind)].into_iter().flat_map(|(key, routes)| {
        routes.iter().flat_map(move |route| match route {
            Route::Exchange(exchange) => vec![(key, exchange)],
            Route::Keys(keys) => vec![(key, &keys.exchange), (key, &keys.routing_key)],
        })
    });
    let lists = [("consume", &policy.consume), ("queues", &policy.queues), ("exchanges", &policy.exchanges)];
    let lists = lists.into_iter().flat_map(|(key, list)| list.iter().map(move |pattern| (key, pattern)));
    let texts = [("username", Some(&policy.username)), ("vhost", policy.vhost.as_ref())];
    routes.chain(lists).chain(texts.into_iter().filter_map(|(key, text)| Some((key, text?))))
}
