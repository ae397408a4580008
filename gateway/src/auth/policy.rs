//! What somebody may do, and who they are to RabbitMQ.
//!
//! A [`Rule`] is what the settings say; a [`Policy`] is the rule with the claims of one token filled in. It is asked
//! about each operation before it reaches RabbitMQ. Everything that is not allowed is refused.

use hopmq_proto::FieldTable;
use std::collections::HashSet;

use hopmq_proto::method::{Method, basic, exchange, queue};

use super::claims::Claims;
use super::pattern::{Pattern, Text};
use crate::config::{self, Route};

/// What one bearer of a token may do.
#[derive(Debug)]
pub(crate) struct Policy {
    publish: Vec<Allowed>,
    bind: Vec<Allowed>,
    consume: Vec<Pattern>,
    queues: Vec<Pattern>,
    exchanges: Vec<Pattern>,
    temporary_queues: bool,
    message_max: u64,
}

/// An exchange, and the keys on it.
#[derive(Debug)]
struct Allowed {
    exchange: Pattern,
    /// `None` is any.
    key: Option<Pattern>,
}

/// What is asked about, with what the connection knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) method: &'a Method<'a>,
    /// The queue that the empty name stands for: the last that was declared on the channel.
    pub(crate) last_queue: Option<&'a str>,
    /// The queues that RabbitMQ named for this connection.
    pub(crate) temporary: &'a HashSet<String>,
}

/// What stands for a queue that RabbitMQ has still to name.
pub(crate) const UNNAMED: &str = "";

impl Policy {
    pub(super) fn new(config: &config::Policy, claims: &Claims) -> Self {
        let patterns = |list: &[String]| list.iter().filter_map(|text| Pattern::new(text, claims)).collect();
        let routes = |list: &[Route]| {
            let allowed = |route: &Route| match route {
                Route::Exchange(exchange) => Some(Allowed { exchange: Pattern::new(exchange, claims)?, key: None }),
                Route::Keys(keys) => Some(Allowed {
                    exchange: Pattern::new(&keys.exchange, claims)?,
                    key: Some(Pattern::new(&keys.routing_key, claims)?),
                }),
            };
            list.iter().filter_map(allowed).collect()
        };
        Self {
            publish: routes(&config.publish),
            bind: routes(&config.bind),
            consume: patterns(&config.consume),
            queues: patterns(&config.queues),
            exchanges: patterns(&config.exchanges),
            temporary_queues: config.temporary_queues,
            message_max: config.message_max.map_or(u64::MAX, |size| if size.0 == 0 { u64::MAX } else { size.0 }),
        }
    }

    /// Whether a method may go on to RabbitMQ; the error says what they may not do.
    pub(crate) fn check(&self, operation: &Operation<'_>) -> Result<(), String> {
        match operation.method {
            Method::BasicPublish(publish) => self.publish(publish.exchange, publish.routing_key),
            Method::BasicConsume(consume) => self.read(consume.queue, "consume from", operation),
            Method::BasicGet(get) => self.read(get.queue, "get from", operation),
            Method::QueuePurge(purge) => self.read(purge.queue, "purge", operation),
            Method::QueueDeclare(declare) => self.declare_queue(declare, operation),
            Method::QueueDelete(delete) => self.own(delete.queue, "delete", operation),
            Method::QueueBind(bind) => {
                self.own(bind.queue, "bind", operation)?;
                self.bind(bind.exchange, bind.routing_key)
            }
            Method::QueueUnbind(unbind) => {
                self.own(unbind.queue, "unbind", operation)?;
                self.bind(unbind.exchange, unbind.routing_key)
            }
            Method::ExchangeDeclare(declare) => self.declare_exchange(declare),
            Method::ExchangeDelete(delete) => self.exchange(delete.exchange, "delete"),
            Method::ExchangeBind(exchange::Bind { destination, source, routing_key, .. }) => {
                self.exchange(destination, "bind")?;
                self.bind(source, routing_key)
            }
            Method::ExchangeUnbind(exchange::Unbind { destination, source, routing_key, .. }) => {
                self.exchange(destination, "unbind")?;
                self.bind(source, routing_key)
            }
            _ => Ok(()),
        }
    }

    /// Whether a message may go to an exchange with this key.
    pub(crate) fn publish(&self, exchange: &str, key: &str) -> Result<(), String> {
        let allows = |allowed: &Allowed| {
            allowed.exchange.fits(exchange, Text::Name)
                && allowed.key.as_ref().is_none_or(|pattern| pattern.fits(key, Text::Name))
        };
        if self.publish.iter().any(allows) {
            return Ok(());
        }
        Err(format!("may not publish to {} with the routing key '{key}'", named("exchange", exchange)))
    }

    /// Whether a message may be this large, and go to the other keys that its headers name (RabbitMQ's page
    /// "Sender-selected Distribution").
    pub(crate) fn message(
        &self,
        publish: &basic::Publish<'_>,
        size: u64,
        headers: &FieldTable<&[u8]>,
    ) -> Result<(), String> {
        if size > self.message_max {
            return Err(format!("may not publish {size} bytes in one message: {} is the limit", self.message_max));
        }
        for (name, value) in headers.iter().filter(|(name, _)| matches!(*name, "CC" | "BCC")) {
            let Some(keys) = value.as_array() else {
                return Err(format!("may not publish with {name} that is no list"));
            };
            for key in keys.iter() {
                let Some(key) = key.as_str() else {
                    return Err(format!("may not publish with {name} that is no text"));
                };
                self.publish(publish.exchange, key)?;
            }
        }
        Ok(())
    }

    /// Whether messages may be passed on to an exchange in their name: with `key`, or with whatever they came with.
    fn forward(&self, exchange: &str, key: Option<&str>) -> Result<(), String> {
        match key {
            Some(key) => self.publish(exchange, key),
            None => {
                let all = |allowed: &Allowed| {
                    allowed.exchange.fits(exchange, Text::Name) && allowed.key.as_ref().is_none_or(Pattern::is_all)
                };
                if self.publish.iter().any(all) {
                    return Ok(());
                }
                Err(format!("may not pass on messages to {} with any routing key", named("exchange", exchange)))
            }
        }
    }

    fn bind(&self, exchange: &str, key: &str) -> Result<(), String> {
        let allows = |allowed: &Allowed| {
            allowed.exchange.fits(exchange, Text::Name)
                && allowed.key.as_ref().is_none_or(|pattern| pattern.fits(key, Text::BindingKey))
        };
        if self.bind.iter().any(allows) {
            return Ok(());
        }
        Err(format!("may not bind to {} with the key '{key}'", named("exchange", exchange)))
    }

    fn read(&self, queue: &str, verb: &str, operation: &Operation<'_>) -> Result<(), String> {
        self.queue(queue, verb, operation, &[&self.consume])
    }

    fn own(&self, queue: &str, verb: &str, operation: &Operation<'_>) -> Result<(), String> {
        self.queue(queue, verb, operation, &[&self.queues])
    }

    /// Whether a queue is one of their own temporary ones or fits one of the lists.
    fn queue(&self, queue: &str, verb: &str, operation: &Operation<'_>, lists: &[&Vec<Pattern>]) -> Result<(), String> {
        let name = if queue.is_empty() { operation.last_queue } else { Some(queue) };
        let Some(name) = name else {
            return Err(format!("may not {verb} a queue without a name before one is declared"));
        };
        let mine = self.temporary_queues && (name == UNNAMED || operation.temporary.contains(name));
        let listed = lists.iter().any(|list| list.iter().any(|pattern| pattern.fits(name, Text::Name)));
        if mine || name != UNNAMED && listed {
            return Ok(());
        }
        Err(format!("may not {verb} {}", named("queue", name)))
    }

    fn declare_queue(&self, declare: &queue::Declare<'_>, operation: &Operation<'_>) -> Result<(), String> {
        if declare.passive {
            return self.queue(declare.queue, "declare", operation, &[&self.queues, &self.consume]);
        }
        if declare.queue.is_empty() {
            if !self.temporary_queues || !declare.exclusive {
                return Err(
                    "may not declare a queue that RabbitMQ names, unless it is exclusive and temporary_queues \
                            is set"
                        .to_owned(),
                );
            }
        } else {
            self.own(declare.queue, "declare", operation)?;
        }
        let (exchanges, keys) = (
            texts(&declare.arguments, "x-dead-letter-exchange")?,
            texts(&declare.arguments, "x-dead-letter-routing-key")?,
        );
        for exchange in exchanges {
            if keys.is_empty() {
                self.forward(exchange, None)?;
            }
            for key in &keys {
                self.forward(exchange, Some(key))?;
            }
        }
        Ok(())
    }

    fn declare_exchange(&self, declare: &exchange::Declare<'_>) -> Result<(), String> {
        let name = declare.exchange;
        if declare.passive {
            let routes = self.publish.iter().chain(&self.bind);
            if routes.map(|allowed| &allowed.exchange).any(|pattern| pattern.fits(name, Text::Name)) {
                return Ok(());
            }
        }
        self.exchange(name, "declare")?;
        texts(&declare.arguments, "alternate-exchange")?.into_iter().try_for_each(|other| self.forward(other, None))
    }

    fn exchange(&self, name: &str, verb: &str) -> Result<(), String> {
        if self.exchanges.iter().any(|pattern| pattern.fits(name, Text::Name)) {
            return Ok(());
        }
        Err(format!("may not {verb} {}", named("exchange", name)))
    }
}

/// All arguments of a name, for who writes it twice may mean either.
fn texts<'a>(arguments: &FieldTable<&'a [u8]>, name: &str) -> Result<Vec<&'a str>, String> {
    let values = arguments.iter().filter(|(other, _)| *other == name).map(|(_, value)| value);
    values.map(|value| value.as_str().ok_or_else(|| format!("may not declare with {name} that is no text"))).collect()
}

fn named(what: &str, name: &str) -> String {
    match name {
        "" if what == "exchange" => "the default exchange".to_owned(),
        "" => format!("a {what} without a name"),
        name => format!("{what} '{name}'"),
    }
}
