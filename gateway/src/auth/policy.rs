//! What the bearer of a token may do.
//!
//! A [`Policy`] is a policy of the settings with the claims of one token filled in. It decides about each operation
//! before the operation reaches RabbitMQ. Whatever is not allowed is denied.

use std::collections::HashSet;

use hopmq_proto::FieldTable;
use hopmq_proto::method::{Method, basic, exchange, queue};

use super::claims::Claims;
use super::denied::Denied;
use super::error::AuthError;
use super::pattern::{Pattern, Place, Text, UnfitClaim};
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

/// An exchange and its routing keys.
#[derive(Debug)]
struct Allowed {
    exchange: Pattern,
    /// `None` matches any key.
    key: Option<Pattern>,
}

impl Allowed {
    fn new(route: &Route, claims: &Claims) -> Result<Option<Self>, UnfitClaim> {
        let (exchange, key) = match route {
            Route::Exchange(exchange) => (exchange, None),
            Route::Keys(keys) => (&keys.exchange, Some(&keys.routing_key)),
        };
        // A routing key of the default exchange is the name of a queue.
        let place = if exchange.is_empty() { Place::Name } else { Place::RoutingKey };
        let Some(exchange) = Pattern::new(exchange, claims, Place::Name)? else { return Ok(None) };
        match key.map(|key| Pattern::new(key, claims, place)).transpose()? {
            Some(None) => Ok(None),
            key => Ok(Some(Self { exchange, key: key.flatten() })),
        }
    }
}

/// A method to decide about, and what the connection knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) method: &'a Method<'a>,
    /// The queue that the empty name stands for: the last one that was declared on the channel.
    pub(crate) last_queue: Option<&'a str>,
    /// The queues that RabbitMQ named for this connection.
    pub(crate) temporary: &'a HashSet<String>,
}

/// The name of a queue that RabbitMQ has not named yet.
pub(crate) const UNNAMED: &str = "";

/// The queue in which RabbitMQ answers the channel that asks ("Direct Reply-To").
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Returns the reason to refuse a token for a claim that a setting of its policy cannot take.
pub(super) fn unfit(setting: &'static str, claim: UnfitClaim) -> AuthError {
    AuthError::ClaimUnfit { setting, claim: claim.name, flaw: claim.flaw }
}

impl Policy {
    /// Fills in the claims.
    ///
    /// # Errors
    /// [`AuthError::ClaimUnfit`] if a claim cannot be part of a name or a routing key.
    pub(super) fn new(config: &config::Policy, claims: &Claims) -> Result<Self, AuthError> {
        let patterns = |setting, list: &[String]| -> Result<Vec<Pattern>, AuthError> {
            let filled = list.iter().map(|text| Pattern::new(text, claims, Place::Name));
            filled.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(|claim| unfit(setting, claim))
        };
        let routes = |setting, list: &[Route]| -> Result<Vec<Allowed>, AuthError> {
            let filled = list.iter().map(|route| Allowed::new(route, claims));
            filled.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(|claim| unfit(setting, claim))
        };
        Ok(Self {
            publish: routes("publish", &config.publish)?,
            bind: routes("bind", &config.bind)?,
            consume: patterns("consume", &config.consume)?,
            queues: patterns("queues", &config.queues)?,
            exchanges: patterns("exchanges", &config.exchanges)?,
            temporary_queues: config.temporary_queues,
            message_max: config.message_max.map_or(u64::MAX, |size| if size.0 == 0 { u64::MAX } else { size.0 }),
        })
    }

    /// Decides whether a method may pass to RabbitMQ.
    pub(crate) fn check(&self, operation: &Operation<'_>) -> Result<(), Denied> {
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

    /// Decides whether a message may be published to an exchange with this routing key.
    pub(crate) fn publish(&self, exchange: &str, key: &str) -> Result<(), Denied> {
        let allows = |allowed: &Allowed| {
            allowed.exchange.matches(exchange, Text::Name)
                && allowed.key.as_ref().is_none_or(|pattern| pattern.matches(key, Text::Name))
        };
        if self.publish.iter().any(allows) {
            return Ok(());
        }
        Err(Denied::Publish { exchange: exchange.to_owned(), routing_key: key.to_owned() })
    }

    /// Decides whether a message may have this size, and may go to the further routing keys in its headers `CC` and
    /// `BCC` (RabbitMQ's "Sender-selected Distribution").
    pub(crate) fn message(
        &self,
        publish: &basic::Publish<'_>,
        size: u64,
        headers: &FieldTable<&[u8]>,
    ) -> Result<(), Denied> {
        if size > self.message_max {
            return Err(Denied::MessageTooLarge { size, limit: self.message_max });
        }
        for (name, value) in headers.iter().filter(|(name, _)| matches!(*name, "CC" | "BCC")) {
            let not_texts = || Denied::Header { name: name.to_owned() };
            for key in value.as_array().ok_or_else(not_texts)?.iter() {
                self.publish(publish.exchange, key.as_str().ok_or_else(not_texts)?)?;
            }
        }
        Ok(())
    }

    /// Decides whether a message may ask for replies in this queue: who answers may publish to more queues than the
    /// bearer. Allowed are the queues that the bearer may use, and its channel itself.
    pub(crate) fn reply_to(&self, queue: &str, temporary: &HashSet<String>) -> Result<(), Denied> {
        let mut lists = self.consume.iter().chain(&self.queues);
        let is_allowed = queue.is_empty()
            || queue == DIRECT_REPLY_TO
            || self.temporary_queues && temporary.contains(queue)
            || lists.any(|pattern| pattern.matches(queue, Text::Name));
        if is_allowed { Ok(()) } else { Err(Denied::ReplyTo { queue: queue.to_owned() }) }
    }

    /// Decides whether RabbitMQ may forward messages to an exchange: with `key`, or with their original routing keys.
    fn forward(&self, exchange: &str, key: Option<&str>) -> Result<(), Denied> {
        match key {
            Some(key) => self.publish(exchange, key),
            None => {
                let all = |allowed: &Allowed| {
                    allowed.exchange.matches(exchange, Text::Name) && allowed.key.as_ref().is_none_or(Pattern::is_all)
                };
                if self.publish.iter().any(all) {
                    return Ok(());
                }
                Err(Denied::Forward { exchange: exchange.to_owned() })
            }
        }
    }

    fn bind(&self, exchange: &str, key: &str) -> Result<(), Denied> {
        let allows = |allowed: &Allowed| {
            allowed.exchange.matches(exchange, Text::Name)
                && allowed.key.as_ref().is_none_or(|pattern| pattern.matches(key, Text::BindingKey))
        };
        if self.bind.iter().any(allows) {
            return Ok(());
        }
        Err(Denied::Bind { exchange: exchange.to_owned(), key: key.to_owned() })
    }

    fn read(&self, queue: &str, verb: &'static str, operation: &Operation<'_>) -> Result<(), Denied> {
        self.queue(queue, verb, operation, &[&self.consume])
    }

    fn own(&self, queue: &str, verb: &'static str, operation: &Operation<'_>) -> Result<(), Denied> {
        self.queue(queue, verb, operation, &[&self.queues])
    }

    /// Decides whether a queue is a temporary one of this connection or matches one of the lists.
    fn queue(
        &self,
        queue: &str,
        verb: &'static str,
        operation: &Operation<'_>,
        lists: &[&Vec<Pattern>],
    ) -> Result<(), Denied> {
        let name = if queue.is_empty() { operation.last_queue } else { Some(queue) };
        let Some(name) = name else {
            return Err(Denied::QueueNotDeclared { verb });
        };
        let is_temporary = self.temporary_queues && (name == UNNAMED || operation.temporary.contains(name));
        let is_listed = lists.iter().any(|list| list.iter().any(|pattern| pattern.matches(name, Text::Name)));
        if is_temporary || name != UNNAMED && is_listed {
            return Ok(());
        }
        Err(Denied::Queue { verb, name: name.to_owned() })
    }

    fn declare_queue(&self, declare: &queue::Declare<'_>, operation: &Operation<'_>) -> Result<(), Denied> {
        if declare.passive {
            return self.queue(declare.queue, "declare", operation, &[&self.queues, &self.consume]);
        }
        if declare.queue.is_empty() {
            if !self.temporary_queues || !declare.exclusive {
                return Err(Denied::TemporaryQueue);
            }
        } else {
            self.own(declare.queue, "declare", operation)?;
        }
        let exchanges = texts(&declare.arguments, "x-dead-letter-exchange")?;
        let keys = texts(&declare.arguments, "x-dead-letter-routing-key")?;
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

    fn declare_exchange(&self, declare: &exchange::Declare<'_>) -> Result<(), Denied> {
        let name = declare.exchange;
        if declare.passive {
            let routes = self.publish.iter().chain(&self.bind);
            if routes.map(|allowed| &allowed.exchange).any(|pattern| pattern.matches(name, Text::Name)) {
                return Ok(());
            }
        }
        self.exchange(name, "declare")?;
        texts(&declare.arguments, "alternate-exchange")?.into_iter().try_for_each(|other| self.forward(other, None))
    }

    fn exchange(&self, name: &str, verb: &'static str) -> Result<(), Denied> {
        if self.exchanges.iter().any(|pattern| pattern.matches(name, Text::Name)) {
            return Ok(());
        }
        Err(Denied::Exchange { verb, name: name.to_owned() })
    }
}

/// Returns all arguments of this name: a table may hold a name twice, and RabbitMQ may use either.
fn texts<'a>(arguments: &FieldTable<&'a [u8]>, name: &str) -> Result<Vec<&'a str>, Denied> {
    let values = arguments.iter().filter(|(other, _)| *other == name).map(|(_, value)| value);
    values.map(|value| value.as_str().ok_or_else(|| Denied::Argument { name: name.to_owned() })).collect()
}
