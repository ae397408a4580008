//! Declaring, using and deleting exchanges.

use hopmq::{Body, IntoValue, wait};

use crate::forward::{getters, requests, settings};
use crate::{Publish, Result};

/// The declaration of an exchange, made by [`Channel::exchange`](crate::Channel::exchange), sent by
/// [`ExchangeDeclare::declare`]. The default kind is `direct`.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let logs = channel.exchange("logs").topic().durable().declare()?;
/// logs.publish("app.error", "disk full").send()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is declared before declare() or declare_passive()"]
pub struct ExchangeDeclare<'a> {
    pub(crate) core: hopmq::ExchangeDeclare<'a>,
}

impl<'a> ExchangeDeclare<'a> {
    settings! {
        /// Makes the exchange route to queues bound with exactly the message's routing key. The default.
        direct();
        /// Makes the exchange route to all bound queues.
        fanout();
        /// Makes the exchange route by patterns: words between dots, `*` for one word, `#` for any number.
        topic();
        /// Makes the exchange route by the message's headers, as the arguments of the bindings say (`x-match`).
        headers();
        /// Sets any kind that the broker knows, by its name: `x-delayed-message`, `x-consistent-hash`, …
        kind(kind: &'a str);
        /// Makes the exchange survive a restart of the broker.
        durable();
        /// Has the broker delete the exchange when its last binding is removed.
        auto_delete();
        /// Forbids publishing to the exchange; it takes messages from other exchanges only.
        internal();
        /// Sets the exchange that takes messages which this one can't route (`alternate-exchange`).
        alternate_exchange(exchange: &str);
        /// Adds an argument.
        argument(key: &str, value: impl IntoValue);
    }

    /// Declares the exchange (AMQP 0-9-1 section 1.6.2.1).
    ///
    /// # Errors
    /// 406 if the exchange exists with other settings, 503 (since RabbitMQ 4.0: 406) if the broker doesn't know its
    /// kind, 403 if declaring it is not permitted.
    pub fn declare(self) -> Result<Exchange> {
        wait(self.core.declare()).map(|core| Exchange { core })
    }

    /// Checks that the exchange exists, whatever its settings, without declaring it.
    ///
    /// # Errors
    /// 404 if the exchange does not exist, which closes the channel.
    pub fn declare_passive(self) -> Result<Exchange> {
        wait(self.core.declare_passive()).map(|core| Exchange { core })
    }
}

/// A declared exchange, on the channel that declared it.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let shop = channel.exchange("shop").topic().durable().declare()?;
/// channel.exchange("audit").fanout().durable().declare()?.bind_to(shop.name(), "order.#")?;
/// shop.publish("order.new", "an order").confirm()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exchange {
    core: hopmq::Exchange,
}

impl Exchange {
    getters! {
        /// Returns the exchange's name.
        name() -> &str;
    }

    requests! {
        /// Binds this exchange to `source`, so that messages that `source` routes reach it: see
        /// [`Channel::exchange_bind`](crate::Channel::exchange_bind).
        bind_to(source: &str, routing_key: &str) -> ();
    }

    /// Prepares to publish a message to the exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(routing_key, body) }
    }

    /// Prepares to delete the exchange: see [`ExchangeDelete`].
    pub fn delete(&self) -> ExchangeDelete<'_> {
        ExchangeDelete { core: self.core.delete() }
    }
}

/// The deletion of an exchange, sent by [`ExchangeDelete::delete`].
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// channel.exchange_delete("shop").if_unused().delete()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is deleted before delete()"]
pub struct ExchangeDelete<'a> {
    pub(crate) core: hopmq::ExchangeDelete<'a>,
}

impl ExchangeDelete<'_> {
    settings! {
        /// Deletes the exchange only if nothing is bound to it.
        if_unused();
    }

    /// Deletes the exchange.
    ///
    /// # Errors
    /// 406 if the exchange is in use and `if_unused` was set; 403 if it is one of the broker's own.
    pub fn delete(self) -> Result<()> {
        wait(self.core.delete())
    }
}
