//! A pool of channels, for callers that need one for a moment.

use std::ops::Deref;

use crate::{Channel, Connection, Result};
use hopmq::wait;

/// A pool of channels over one connection, or over several in turn: see [`hopmq::Pool`].
///
/// ```no_run
/// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
/// let pool = hopmq_blocking::Pool::new([connection], 64);
/// let channel = pool.get()?;
/// channel.publish("", "orders", "a pizza").confirm()?;
/// drop(channel); // the channel goes back to the pool
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    core: hopmq::Pool,
}

impl Pool {
    /// Returns a pool of up to `channels` channels over these connections. Channels are opened when they are needed.
    pub fn new(connections: impl IntoIterator<Item = Connection>, channels: usize) -> Self {
        let connections = connections.into_iter().map(|connection| connection.core);
        Self { core: hopmq::Pool::new(connections, channels) }
    }

    /// Takes a channel out of the pool, and waits until one is free.
    ///
    /// # Errors
    /// The errors of [`Connection::channel`]; [`Usage`](crate::ErrorKind::Usage) if the pool has no open connection.
    pub fn get(&self) -> Result<Pooled> {
        let core = wait(self.core.get())?;
        Ok(Pooled { channel: Channel::new((*core).clone()), _core: core })
    }

    /// Returns the number of open channels, in use or free.
    pub fn size(&self) -> usize {
        self.core.size()
    }
}

/// A channel taken out of a [`Pool`], which goes back when this is dropped.
#[derive(Debug)]
pub struct Pooled {
    channel: Channel,
    _core: hopmq::Pooled,
}

impl Deref for Pooled {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}
