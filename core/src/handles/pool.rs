//! Channels for whoever needs one for a moment, over one connection or several.
//!
//! Owns the channels that nobody has at the moment, and whoever waits for one. Connections come back by themselves, so
//! a pool needs to know nothing of links; a channel that has ended is not handed out again.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::state::slots::Slots;
use crate::{Channel, Connection, Error, ErrorKind, Result};

/// Channels to be lent, over one connection or several in turn.
///
/// ```no_run
/// # async fn example(one: hopmq::Connection, other: hopmq::Connection) -> hopmq::Result<()> {
/// let pool = hopmq::Pool::new([one, other], 64);
/// let channel = pool.get().await?;
/// channel.publish("", "orders", "a pizza").confirm().await?;
/// drop(channel); // it goes back, for the next one
/// # Ok(())
/// # }
/// ```
///
/// Lend a channel as you got it: without consumers, with the prefetch and the mode that the others expect. A channel
/// that publishes with confirms does so for everybody.
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
    /// Channels that are lent, idle, or being opened.
    open: usize,
    /// Whose turn it is to get the next channel.
    turn: usize,
    waiting: Slots<Option<Waker>>,
}

impl Pool {
    /// A pool of up to `channels` channels over these connections, opened when they are needed.
    pub fn new(connections: impl IntoIterator<Item = Connection>, channels: usize) -> Self {
        let connections = connections.into_iter().collect();
        Self { shared: Arc::new(Shared { connections, most: channels.max(1), state: Mutex::default() }) }
    }

    /// A channel, as soon as there is one. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// Those of [`Connection::channel`]; [`ErrorKind::Usage`] if the pool has no connection that is open.
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

    /// The connections take turns; those that have ended are left out.
    fn next_connection(&self) -> Result<&Connection> {
        let mut state = self.shared.lock();
        state.turn = state.turn.wrapping_add(1);
        let (turn, count) = (state.turn, self.shared.connections.len());
        drop(state);
        let mut connections = (0..count).map(|step| &self.shared.connections[turn.wrapping_add(step) % count]);
        let open = connections.find(|connection| connection.is_open());
        open.ok_or_else(|| Error::new(ErrorKind::Usage, "the pool has no connection that is open"))
    }

    /// Channels that are open, lent or not.
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

    /// One channel more may be opened, or taken. Whoever comes first gets it.
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

/// Somebody who waits for a channel.
struct Place<'a> {
    shared: &'a Shared,
    key: Option<u64>,
    /// One more may be opened, and nobody else will.
    reserved: bool,
}

impl Place<'_> {
    /// Ready with a channel that is free, or with the right to open another.
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

/// A channel that is lent: it goes back to its [`Pool`] when this is dropped.
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
