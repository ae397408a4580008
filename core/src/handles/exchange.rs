//! Exchanges: declaring, deleting, and handles to declared ones.

use std::future::IntoFuture;

use hopmq_proto::method::exchange;
use hopmq_proto::{Body, FieldTable, IntoValue};

use crate::handles::channel::Channel;
use crate::handles::publish::Publish;
use crate::{Request, Result};

/// The declaration of an exchange: created by [`Channel::exchange`], sent by [`ExchangeDeclare::declare`]. The default
/// kind is direct.
///
/// ```no_run
/// # async fn example(channel: hopmq::Channel) -> hopmq::Result<()> {
/// let logs = channel.exchange("logs").topic().durable().declare().await?;
/// logs.publish("app.error", "disk full").send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is declared before declare() or declare_passive()"]
pub struct ExchangeDeclare<'a> {
    channel: &'a Channel,
    name: &'a str,
    kind: &'a str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: FieldTable,
}

impl<'a> ExchangeDeclare<'a> {
    pub(crate) fn new(channel: &'a Channel, name: &'a str) -> Self {
        Self {
            channel,
            name,
            kind: "direct",
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::new(),
        }
    }

    /// Routes to the queues that are bound with exactly the routing key of the message. The default.
    pub fn direct(self) -> Self {
        self.kind("direct")
    }

    /// Routes to all bound queues.
    pub fn fanout(self) -> Self {
        self.kind("fanout")
    }

    /// Routes by patterns: words between dots, `*` for one word, `#` for any number of words.
    pub fn topic(self) -> Self {
        self.kind("topic")
    }

    /// Routes by the headers of the message, which the arguments of the bindings match (`x-match`).
    pub fn headers(self) -> Self {
        self.kind("headers")
    }

    /// Sets any kind that the broker supports, by its name: `x-delayed-message`, `x-consistent-hash`, …
    pub fn kind(mut self, kind: &'a str) -> Self {
        self.kind = kind;
        self
    }

    /// Keeps the exchange when the broker restarts.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Deletes the exchange when its last binding is removed.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Forbids clients to publish to the exchange; it receives messages only from other exchanges.
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Sets the exchange that receives the messages which this one can't route (`alternate-exchange`).
    pub fn alternate_exchange(self, exchange: &str) -> Self {
        self.argument("alternate-exchange", exchange)
    }

    /// Adds any argument.
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Declares the exchange (AMQP 0-9-1 section 1.6.2.1).
    ///
    /// # Errors
    /// 406 if the exchange exists with other settings, 503 (since RabbitMQ 4.0: 406) if the broker doesn't support
    /// its kind, 403 if the user may not declare it.
    pub fn declare(self) -> Request<Exchange> {
        self.send(false)
    }

    /// Checks that the exchange exists, ignoring all settings.
    ///
    /// # Errors
    /// 404 if the exchange does not exist. The broker then closes the channel.
    pub fn declare_passive(self) -> Request<Exchange> {
        self.send(true)
    }

    fn send(self, passive: bool) -> Request<Exchange> {
        let method = exchange::Declare {
            exchange: self.name,
            kind: self.kind,
            passive,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            nowait: false,
            arguments: self.arguments.as_ref_table(),
        };
        let exchange = Exchange { channel: self.channel.clone(), name: self.name.to_owned() };
        self.channel.request_with(&self.arguments, &method, |_| Some(())).map(move |()| exchange)
    }
}

/// A declared exchange, on the channel that declared it.
#[derive(Clone, Debug)]
pub struct Exchange {
    channel: Channel,
    name: String,
}

impl Exchange {
    /// Returns the name of the exchange.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes a message to the exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        self.channel.publish(&self.name, routing_key, body)
    }

    /// Binds this exchange to `source`, so that it receives what `source` routes: see [`Channel::exchange_bind`].
    pub fn bind_to(&self, source: &str, routing_key: &str) -> Request<()> {
        self.channel.exchange_bind(&self.name, source, routing_key, ())
    }

    /// Deletes the exchange: see [`ExchangeDelete`].
    pub fn delete(&self) -> ExchangeDelete<'_> {
        self.channel.exchange_delete(&self.name)
    }
}

/// The deletion of an exchange, sent by [`ExchangeDelete::delete`] or by awaiting it.
#[derive(Debug)]
#[must_use = "nothing is deleted before delete() or awaiting it"]
pub struct ExchangeDelete<'a> {
    channel: &'a Channel,
    name: &'a str,
    if_unused: bool,
}

impl<'a> ExchangeDelete<'a> {
    pub(crate) fn new(channel: &'a Channel, name: &'a str) -> Self {
        Self { channel, name, if_unused: false }
    }

    /// Deletes the exchange only if nothing is bound to it.
    pub fn if_unused(mut self) -> Self {
        self.if_unused = true;
        self
    }

    /// Deletes the exchange.
    ///
    /// # Errors
    /// 406 if the exchange is in use and [`if_unused`](Self::if_unused) was set; 403 if it is predefined by the broker.
    pub fn delete(self) -> Request<()> {
        let Self { channel, name: exchange, if_unused } = self;
        channel.request(&exchange::Delete { exchange, if_unused, nowait: false }, |_| Some(()))
    }
}

impl IntoFuture for ExchangeDelete<'_> {
    type Output = Result<()>;
    type IntoFuture = Request<()>;

    fn into_future(self) -> Request<()> {
        self.delete()
    }
}
