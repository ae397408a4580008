//! The policies of the settings: whom each is for, and who they are to RabbitMQ.

use super::claims::Claims;
use super::grant::Grant;
use super::pattern::{self, fill};
use super::policy::Policy;
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
    policies.iter().enumerate().map(|(at, policy)| Rule::new(at, policy, limits)).collect()
}

impl Rule {
    fn new(at: usize, policy: &config::Policy, limits: &config::Limits) -> Result<Self, ConfigError> {
        let wrong = |key: &str, why: &str| ConfigError(format!("auth.policy[{at}].{key}: {why}"));
        if policy.username.is_empty() {
            return Err(wrong("username", "set RabbitMQ's user"));
        }
        let password = secret::read("auth.policy.password", policy.password.as_ref(), policy.password_file.as_ref())?
            .ok_or_else(|| wrong("password", "set it, or password_file"))?;
        let routes = [("publish", &policy.publish), ("bind", &policy.bind)];
        let of_routes = routes.iter().flat_map(|(key, routes)| {
            routes.iter().flat_map(move |route| match route {
                Route::Exchange(exchange) => vec![(*key, exchange)],
                Route::Keys(keys) => vec![(*key, &keys.exchange), (*key, &keys.routing_key)],
            })
        });
        let lists = [("consume", &policy.consume), ("queues", &policy.queues), ("exchanges", &policy.exchanges)];
        let of_lists = lists.iter().flat_map(|(key, list)| list.iter().map(move |pattern| (*key, pattern)));
        let single = [("username", Some(&policy.username)), ("vhost", policy.vhost.as_ref())];
        let single = single.into_iter().filter_map(|(key, text)| Some((key, text?)));
        for (key, text) in of_routes.chain(of_lists).chain(single) {
            pattern::check(text).map_err(|why| wrong(key, &why))?;
        }
        let rates = Rates {
            messages: policy.messages_per_second.unwrap_or(limits.messages_per_second),
            bytes: policy.bytes_per_second.unwrap_or(limits.bytes_per_second).0,
        };
        Ok(Self { config: policy.clone(), password: Password(password), rates })
    }

    /// Whether it is for the bearer of these claims.
    pub(super) fn holds(&self, claims: &Claims) -> bool {
        self.config.when.iter().all(|(claim, wanted)| claims.has(claim, wanted))
    }

    pub(super) fn grant(&self, subject: String, claims: &Claims, expires: Option<u64>) -> Result<Grant, String> {
        let config = &self.config;
        let lacks = |what: &str| format!("the token lacks a claim that {what} of its policy needs");
        let vhost = config.vhost.as_deref().unwrap_or("/");
        Ok(Grant {
            subject,
            username: fill(&config.username, claims).ok_or_else(|| lacks("username"))?,
            password: self.password.0.clone(),
            vhost: fill(vhost, claims).ok_or_else(|| lacks("vhost"))?,
            policy: Policy::new(config, claims),
            rates: self.rates,
            expires,
        })
    }
}
