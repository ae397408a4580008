//! Exchanges: declaring, using and deleting them.

use hopmq::{Body, Value};

use crate::forward::{facts, requests, settings};
use crate::wait::wait;
use crate::{Publish, Result};

/// An exchange to be declared: made by [`Channel::exchange`](crate::Channel::exchange), declared by
/// [`ExchangeDeclare::declare`]. Without a kind it is a direct one.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let logs = channel.exchange("logs").topic().durable().declare()?;
/// logs.publish("app.error", "disk full").send()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is declared before declare() or passive()"]
pub struct ExchangeDeclare<'a> {
    pub(crate) core: hopmq::ExchangeDeclare<'a>,
}

impl<'a> ExchangeDeclare<'a> {
    settings! {
        /// Routes to queues that are bound with the very routing key of the message. The default.
        direct();
        /// Routes to all queues that are bound.
        fanout();
        /// Routes by patterns: words between dots, `*` for one word, `#` for any number.
        topic();
        /// Routes by the message's headers, as the arguments of the bindings say (`x-match`).
        headers();
        /// Any kind that the broker knows, by its name: `x-delayed-message`, `x-consistent-hash`, …
        kind(kind: &'a str);
        /// The exchange survives a restart of the broker.
        durable();
        /// The exchange is deleted when its last binding is gone.
        auto_delete();
        /// Nobody may publish to it; it takes messages from other exchanges.
        internal();
        /// Where messages go that it can't route (`alternate-exchange`).
        alternate_exchange(exchange: &str);
        /// Adds any argument.
        argument<'v>(key: &str, value: impl Into<Value<'v>>);
    }

    /// Declares it (AMQP 0-9-1 section 1.6.2.1).
    ///
    /// # Errors
    /// 406 if it exists with other settings, 503 if the broker doesn't know its kind, 403 if it may not be declared.
    pub fn declare(self) -> Result<Exchange> {
        wait(self.core.declare()).map(|core| Exchange { core })
    }

    /// Only checks that it exists, whatever its settings.
    ///
    /// # Errors
    /// 404 if it doesn't, which closes the channel.
    pub fn passive(self) -> Result<Exchange> {
        wait(self.core.passive()).map(|core| Exchange { core })
    }
}

/// An exchange that was declared, on the channel that declared it.
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
    facts! {
        /// Its name.
        name() -> &str;
    }

    requests! {
        /// Has it take what `source` routes: see [`Channel::exchange_bind`](crate::Channel::exchange_bind).
        bind_to(source: &str, routing_key: &str) -> ();
    }

    /// Publishes a message to it: see [`Publish`].
    pub fn publish<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(routing_key, body) }
    }

    /// Deletes it: see [`ExchangeDelete`].
    pub fn delete(&self) -> ExchangeDelete<'_> {
        ExchangeDelete { core: self.core.delete() }
    }
}

/// An exchange to be deleted, by [`ExchangeDelete::delete`].
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
        /// Only if nothing is bound to it.
        if_unused();
    }

    /// Deletes it.
    ///
    /// # Errors
    /// 406 if it is in use, and that was a condition; 403 if it is one of the broker's own.
    pub fn delete(self) -> Result<()> {
        wait(self.core.delete())
    }
}
