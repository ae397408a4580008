//! Channels for whoever needs one for a moment.

use std::ops::Deref;

use crate::wait::wait;
use crate::{Channel, Connection, Result};

/// Channels to be lent, over one connection or several in turn: see [`hopmq::Pool`].
///
/// ```no_run
/// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
/// let pool = hopmq_blocking::Pool::new([connection], 64);
/// let channel = pool.get()?;
/// channel.publish("", "orders", "a pizza").confirm()?;
/// drop(channel); // it goes back, for the next one
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    core: hopmq::Pool,
}

impl Pool {
    /// A pool of up to `channels` channels over these connections, opened when they are needed.
    pub fn new(connections: impl IntoIterator<Item = Connection>, channels: usize) -> Self {
        let connections = connections.into_iter().map(|connection| connection.core);
        Self { core: hopmq::Pool::new(connections, channels) }
    }

    /// Waits for a channel.
    ///
    /// # Errors
    /// Those of [`Connection::channel`]; [`Usage`](crate::ErrorKind::Usage) if the pool has no connection that is open.
    pub fn get(&self) -> Result<Pooled> {
        let core = wait(self.core.get())?;
        Ok(Pooled { channel: Channel::new((*core).clone()), _core: core })
    }

    /// Channels that are open, lent or not.
    pub fn size(&self) -> usize {
        self.core.size()
    }
}

/// A channel that is lent: it goes back to its [`Pool`] when this is dropped.
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
