//! Faults in a broker's connections and answers, to test how clients handle them.

use std::fmt;

use super::tap::{Direction, End, Tap};
use crate::engine;
pub use crate::engine::Confirms;
use crate::period::Period;
use crate::server::Broker;

/// The faults of a broker. Returned by [`Broker::faults`].
///
/// ```
/// use hopmq_broker::{Broker, Confirms};
///
/// let broker = Broker::in_memory();
/// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
/// let queue = connection.channel()?.queue("orders").declare()?;
/// broker.faults().confirms(Confirms::Refused);
/// assert!(queue.publish("a pizza").confirm().is_err());
/// broker.faults().confirms(Confirms::True);
///
/// // The client reconnects automatically.
/// let first = broker.inspect().connections()[0].id;
/// broker.faults().connection(first).cut();
/// broker.wait_until(|inspector| inspector.connections().iter().any(|connection| connection.id != first));
/// # connection.close()?;
/// # Ok::<_, hopmq_blocking::Error>(())
/// ```
#[derive(Clone)]
pub struct Faults {
    broker: Broker,
}

/// Faults for some connections. Returned by [`Faults::connection`], [`Faults::every_connection`] and
/// [`Faults::next_connection`].
///
/// # Panics
/// Faults in the bytes of a connection panic if the broker's connections are not [watched](crate::Builder::watched).
#[derive(Clone)]
pub struct Disturb {
    broker: Broker,
    which: Which,
}

#[derive(Clone, Copy, Debug)]
enum Which {
    One(u64),
    Every,
    Next,
}

impl Broker {
    /// Returns the faults of the broker. Random choices depend on the broker's [seed](crate::Builder::seed) only.
    pub fn faults(&self) -> Faults {
        Faults { broker: self.clone() }
    }
}

impl Faults {
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Returns the faults of the connection with this [id](crate::inspect::Connection::id).
    pub fn connection(&self, id: u64) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::One(id) }
    }

    /// Returns the faults of all open connections.
    pub fn every_connection(&self) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::Every }
    }

    /// Returns the faults of the next connection. They may strike anywhere in its first frames, the login included.
    /// Each fault that is set for the next connection is for one connection.
    pub fn next_connection(&self) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::Next }
    }

    /// Sets how publishes are confirmed from now on. [`Confirms::True`] also confirms those that were withheld.
    pub fn confirms(&self, confirms: Confirms) {
        self.broker.change(|engine, now| engine.set_confirms(now, confirms));
    }

    /// Cancels all consumers with this tag by `basic.cancel`, as when a queue moves to another node. Returns how many
    /// there were.
    pub fn cancel_consumer(&self, tag: &str) -> usize {
        self.broker.change(|engine, now| engine.cancel_tagged(now, tag))
    }

    /// Refuses this many logins, whatever the user.
    pub fn refuse_logins(&self, count: u32) {
        self.broker.change(|engine, _| engine.refuse_logins(count));
    }

    /// Raises or clears the memory alarm: clients that publish are sent `connection.blocked`, and are not read from
    /// until the alarm is cleared.
    pub fn memory_alarm(&self, on: bool) {
        self.broker.0.shared.change(|state, now| state.set_alarm(now, engine::MEMORY, on));
    }

    /// Raises or clears the disk alarm.
    pub fn disk_alarm(&self, on: bool) {
        self.broker.0.shared.change(|state, now| state.set_alarm(now, engine::DISK, on));
    }
}

impl Disturb {
    /// Cuts the connection now, without a close.
    pub fn cut(&self) {
        self.each(Tap::cut);
    }

    /// Cuts the connection after this many more frames in a direction. A client's protocol header counts as a frame.
    pub fn cut_after(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 0, End::Cut));
    }

    /// Cuts the connection within a frame: after this many more frames, and three bytes of the next one.
    pub fn cut_within(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 3, End::Cut));
    }

    /// Cuts the connection at a frame that the seed chooses, among the next `frames` of either direction. Returns the
    /// direction, and the number of frames before the cut.
    pub fn cut_at_random(&self, frames: u64) -> (Direction, u64) {
        let draw = self.broker.change(|engine, _| engine.draw());
        let direction = if draw & 1 == 0 { Direction::FromClient } else { Direction::ToClient };
        let after = (draw >> 1) % frames.max(1);
        self.cut_after(direction, after);
        (direction, after)
    }

    /// Drops everything in both directions from now on, without telling either end, as when a cable is pulled.
    pub fn silence(&self) {
        self.each(Tap::silence);
    }

    /// Drops everything in a direction after this many more frames.
    pub fn silence_after(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 0, End::Silence));
    }

    /// Delays everything from now on, in both directions, on the broker's clock.
    pub fn delay(&self, time: impl Into<Period>) {
        let delay = time.into().duration();
        self.each(move |tap| tap.delay(delay));
    }

    /// Closes the connection with `connection.close`, as an operator does with 320.
    ///
    /// # Panics
    /// For the [next connection](Faults::next_connection), which does not exist yet.
    pub fn close(&self, code: u16, text: &str) {
        let ids = self.ids();
        self.broker.change(|engine, now| ids.iter().for_each(|id| engine.close_by_number(now, *id, code, text)));
    }

    /// Closes a channel of the connection with `channel.close`.
    ///
    /// # Panics
    /// For the [next connection](Faults::next_connection), which does not exist yet.
    pub fn close_channel(&self, number: u16, code: u16, text: &str) {
        let ids = self.ids();
        self.broker.change(|engine, now| {
            ids.iter().for_each(|id| engine.close_channel_by_number(now, *id, number, code, text));
        });
    }

    fn ids(&self) -> Vec<u64> {
        match self.which {
            Which::One(id) => vec![id],
            Which::Every => self.broker.inspect().connections().iter().map(|connection| connection.id).collect(),
            Which::Next => panic!("the next connection does not exist yet, and can't be closed: use cut_after instead"),
        }
    }

    fn each(&self, disturb: impl FnOnce(&Tap) + Clone + Send + 'static) {
        let Some(taps) = &self.broker.0.testing.taps else {
            panic!("this broker's connections are not watched: start it with `.watched(true)`")
        };
        match self.which {
            Which::Next => taps.set_trap(disturb),
            Which::Every => taps.all().iter().for_each(|(_, tap)| disturb.clone()(tap)),
            Which::One(id) => {
                let tap = taps.all().into_iter().find(|(other, _)| *other == id);
                tap.into_iter().for_each(|(_, tap)| disturb.clone()(&tap));
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl fmt::Debug for Disturb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disturb").field(&self.which).finish()
    }
}
