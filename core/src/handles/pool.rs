//! A pool of channels over one or several connections.
//!
//! Owns the idle channels and the list of waiters. Connections reconnect automatically, so a pool knows nothing of
//! links; a closed channel is not lent again.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::task::{Poll, Waker};

use slotmap::SlotMap;

use crate::state::keys::WaiterKey;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Channel, Connection, Error, ErrorKind, Result};

/// A pool that lends channels of one connection, or of several in turn.
///
/// ```no_run
/// # async fn example(one: hopmq::Connection, other: hopmq::Connection) -> hopmq::Result<()> {
/// let pool = hopmq::Pool::new([one, other], 64);
/// let channel = pool.get().await?;
/// channel.publish("", "orders", "a pizza").confirm().await?;
/// drop(channel); // returns it to the pool
/// # Ok(())
/// # }
/// ```
///
/// Return a channel in the state in which it was lent: without consumers, and with the prefetch and mode that other
/// borrowers expect. Once a channel is in confirm mode, it stays in confirm mode for all later borrowers.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Vec<Connection>,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Channel>,
    /// The number of channels that are lent, idle, or being opened.
    open: usize,
    /// The index of the connection that opens the next channel, counted without end.
    turn: usize,
    waiting: SlotMap<WaiterKey, Option<Waker>>,
}

impl Pool {
    /// Creates a pool of up to `channels` channels over these connections. Channels are opened on demand.
    pub fn new(connections: impl IntoIterator<Item = Connection>, channels: usize) -> Self {
        let connections = connections.into_iter().collect();
        Self { shared: Arc::new(Shared { connections, most: channels.max(1), state: Mutex::default() }) }
    }

    /// Borrows a channel, waiting until one is free. Dropping the future ends the wait.
    ///
    /// # Errors
    /// The errors of [`Connection::channel`]; [`ErrorKind::Usage`] if the pool has no open connection.
    pub async fn get(&self) -> Result<Pooled> {
        let mut place = Place { shared: &self.shared, key: None, reserved: false };
        let known = poll_fn(|context| place.poll(context.waker())).await;
        if let Some(channel) = known {
            place.reserved = false;
            return Ok(self.lend(channel));
        }
        let connection = self.next_connection()?;
        let channel = connection.channel().await?;
        place.reserved = false;
        Ok(self.lend(channel))
    }

    fn lend(&self, channel: Channel) -> Pooled {
        Pooled { pool: self.clone(), channel }
    }

    /// Returns the next connection in turn, skipping those that have ended.
    fn next_connection(&self) -> Result<&Connection> {
        let mut state = self.shared.lock();
        state.turn = state.turn.wrapping_add(1);
        let turn = state.turn;
        let count = self.shared.connections.len();
        drop(state);
        let mut connections = (0..count).map(|step| &self.shared.connections[turn.wrapping_add(step) % count]);
        let open = connections.find(|connection| connection.is_open());
        open.ok_or_else(|| Error::new(ErrorKind::Usage, "the pool has no open connection: create a pool over new ones"))
    }

    /// Returns the number of open channels, lent or idle.
    pub fn size(&self) -> usize {
        self.shared.lock().open
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size()).field("most", &self.shared.most).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a channel, or the right to open one, to the pool. The first waiter that polls gets it.
    fn release(&self, channel: Option<Channel>) {
        let mut state = self.lock();
        match channel {
            Some(channel) => state.idle.push(channel),
            None => state.open -= 1,
        }
        let wakers: Vec<Waker> = state.waiting.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A waiter for a channel.
struct Place<'a> {
    shared: &'a Shared,
    key: Option<WaiterKey>,
    /// This waiter holds the right to one channel, which it must release if it is dropped.
    reserved: bool,
}

impl Place<'_> {
    /// Returns a free channel, or `None` for the right to open another one.
    fn poll(&mut self, waker: &Waker) -> Poll<Option<Channel>> {
        let mut ended = Vec::new();
        let mut state = self.shared.lock();
        let found = loop {
            match state.idle.pop() {
                Some(channel) if channel.is_open() => break Some(channel),
                Some(channel) => {
                    state.open -= 1;
                    ended.push(channel);
                }
                None => break None,
            }
        };
        if found.is_none() && state.open >= self.shared.most {
            let key = *self.key.get_or_insert_with(|| state.waiting.insert(None));
            let spent = state.waiting.get_mut(key).and_then(|slot| slot.replace(waker.clone()));
            drop(state);
            drop(spent);
            return Poll::Pending;
        }
        self.reserved = true;
        if found.is_none() {
            state.open += 1;
        }
        drop(state);
        Poll::Ready(found)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.shared.lock().waiting.remove(key);
            drop(waker);
        }
        if self.reserved {
            self.shared.release(None);
        }
    }
}

/// A borrowed channel, which returns to its [`Pool`] when it is dropped.
pub struct Pooled {
    pool: Pool,
    channel: Channel,
}

impl Deref for Pooled {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.shared.release(self.channel.is_open().then(|| self.channel.clone()));
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.channel).finish()
    }
}
