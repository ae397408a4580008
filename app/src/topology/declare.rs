//! Declares the topology of an app, and explains refusals.

use hopmq::{Channel, Connection, ErrorKind};

use super::{Exchange, Existing, Queue};
use crate::error::Error;

/// Declares exchanges, then queues with all that belong to them, then their bindings.
pub(crate) async fn declare(connection: &Connection, exchanges: &[Exchange], queues: &[&Queue]) -> Result<(), Error> {
    let mut declaring = Declaring { channel: connection.channel().await? };
    for exchange in exchanges {
        declaring.exchange(exchange).await?;
    }
    for queue in queues {
        for queue in queue.all() {
            declaring.queue(&queue).await?;
        }
        for binding in &queue.bindings {
            let channel = declaring.channel().await?;
            let done =
                channel.queue_bind(&queue.name, &binding.exchange, &binding.routing_key, &binding.arguments).await;
            done.map_err(|error| not_bound(queue, &binding.exchange, error))?;
        }
    }
    // A refusal that was tolerated has closed it.
    if declaring.channel.is_open() {
        declaring.channel.close().await?;
    }
    Ok(())
}

/// Returns a name that no other queue of the broker has: the broker chooses its end.
pub(crate) async fn unique_name(connection: &Connection, name: &str) -> hopmq::Result<String> {
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;
    let unique = format!("{name}.{}", queue.name().trim_start_matches("amq.gen-"));
    channel.queue_delete(queue.name()).await?;
    channel.close().await?;
    Ok(unique)
}

struct Declaring {
    channel: Channel,
}

impl Declaring {
    /// The broker closes a channel with each refusal.
    async fn channel(&mut self) -> Result<&Channel, Error> {
        if !self.channel.is_open() {
            self.channel = self.channel.reopen().await?;
        }
        Ok(&self.channel)
    }

    async fn exchange(&mut self, exchange: &Exchange) -> Result<(), Error> {
        // The default exchange and the broker's own exist.
        if exchange.name.is_empty() || exchange.name.starts_with("amq.") {
            return Ok(());
        }
        let channel = self.channel().await?;
        let mut declare = channel.exchange(&exchange.name).kind(&exchange.kind);
        if exchange.durable {
            declare = declare.durable();
        }
        for (key, value) in exchange.arguments.iter() {
            declare = declare.argument(key, value);
        }
        let done = match exchange.existing {
            Existing::Require => declare.declare_passive().await,
            _ => declare.declare().await,
        };
        settled("exchange", &exchange.name, exchange.existing, done.map(drop))
    }

    async fn queue(&mut self, queue: &Queue) -> Result<(), Error> {
        let channel = self.channel().await?;
        let mut declare = channel.queue(&queue.name);
        if queue.durable {
            declare = declare.durable();
        }
        if queue.exclusive {
            declare = declare.exclusive();
        }
        if queue.auto_delete {
            declare = declare.auto_delete();
        }
        if let Some(kind) = queue.kind {
            declare = declare.argument("x-queue-type", kind);
        }
        declare = declare.arguments(&queue.arguments);
        let done = match queue.existing {
            Existing::Require => declare.declare_passive().await,
            _ => declare.declare().await,
        };
        settled("queue", &queue.name, queue.existing, done.map(drop))
    }
}

fn settled(what: &str, name: &str, existing: Existing, done: hopmq::Result<()>) -> Result<(), Error> {
    let Err(error) = done else { return Ok(()) };
    match (error.code(), existing) {
        (Some(406), Existing::Adopt) => Ok(()),
        (Some(406), _) => Err(Error::differs(what, name, error)),
        (Some(404), Existing::Require) => Err(Error::missing(what, name, error)),
        _ => Err(Error::not_declared(what, name, error)),
    }
}

fn not_bound(queue: &Queue, exchange: &str, error: hopmq::Error) -> Error {
    if error.kind() == ErrorKind::ChannelClosed && error.code() == Some(404) {
        return Error::no_exchange(&queue.name, exchange, error);
    }
    Error::not_declared("binding of", &queue.name, error)
}
