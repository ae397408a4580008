//! Disturbing a broker's connections and its answers, for tests of what clients do then.

use std::fmt;

use super::tap::{Direction, End, Tap};
use crate::engine;
pub use crate::engine::Confirms;
use crate::period::Period;
use crate::server::Broker;

/// Faults for a broker. Made by [`Broker::faults`].
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
/// // The client comes back by itself.
/// let first = broker.inspect().connections()[0].id;
/// broker.faults().connection(first).cut();
/// broker.wait_until(|look| look.connections().iter().any(|connection| connection.id != first));
/// # connection.close()?;
/// # Ok::<_, hopmq_blocking::Error>(())
/// ```
#[derive(Clone)]
pub struct Faults {
    broker: Broker,
}

/// Faults for some connections. Made by [`Faults::connection`], [`Faults::every_connection`] and
/// [`Faults::next_connection`].
///
/// # Panics
/// What disturbs the bytes of a connection panics if the broker's connections are not
/// [watched](crate::Builder::watched).
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
    /// Disturbs the broker. What is drawn at random is drawn from the broker's [seed](crate::Builder::seed).
    pub fn faults(&self) -> Faults {
        Faults { broker: self.clone() }
    }
}

impl Faults {
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The connection of this [id](crate::inspect::Connection::id).
    pub fn connection(&self, id: u64) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::One(id) }
    }

    /// All connections that are open.
    pub fn every_connection(&self) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::Every }
    }

    /// The next connection to come. What it meets may be anywhere in its first frames, the login included. Several
    /// faults that are set for the next connection are for as many connections, one each.
    pub fn next_connection(&self) -> Disturb {
        Disturb { broker: self.broker.clone(), which: Which::Next }
    }

    /// What publishers hear of their publishes from now on. Once they are confirmed again, so are those that were
    /// withheld.
    pub fn confirms(&self, confirms: Confirms) {
        self.broker.change(|engine, now| engine.set_confirms(now, confirms));
    }

    /// Cancels all consumers with this tag, as it happens when a queue moves to another node: `basic.cancel`. Returns
    /// how many there were.
    pub fn cancel_consumer(&self, tag: &str) -> usize {
        self.broker.change(|engine, now| engine.cancel_tagged(now, tag))
    }

    /// Refuses the next logins, whoever they are, as many as this.
    pub fn refuse_logins(&self, count: u32) {
        self.broker.change(|engine, _| engine.refuse_logins(count));
    }

    /// Raises the alarm that memory is low, or clears it: whoever publishes meanwhile is told `connection.blocked`, and
    /// is not read from until it is over.
    pub fn memory_alarm(&self, on: bool) {
        self.broker.0.shared.change(|state, now| state.set_alarm(now, engine::MEMORY, on));
    }

    /// Raises the alarm that the disk is full, or clears it.
    pub fn disk_alarm(&self, on: bool) {
        self.broker.0.shared.change(|state, now| state.set_alarm(now, engine::DISK, on));
    }
}

impl Disturb {
    /// Cuts it now, without a word.
    pub fn cut(&self) {
        self.each(Tap::cut);
    }

    /// Cuts it once so many more frames have passed in a direction. A client's protocol header counts as a frame.
    pub fn cut_after(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 0, End::Cut));
    }

    /// Cuts it in the middle of a frame: after so many more frames, and three bytes of the one that follows.
    pub fn cut_within(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 3, End::Cut));
    }

    /// Cuts it at a frame that is drawn from the seed, among the next `frames` of either direction. Returns where:
    /// direction and frames before.
    pub fn cut_at_random(&self, frames: u64) -> (Direction, u64) {
        let draw = self.broker.change(|engine, _| engine.draw());
        let direction = if draw & 1 == 0 { Direction::FromClient } else { Direction::ToClient };
        let after = (draw >> 1) % frames.max(1);
        self.cut_after(direction, after);
        (direction, after)
    }

    /// From now on nothing passes, in both directions, and neither end is told: as when a cable is pulled.
    pub fn silence(&self) {
        self.each(Tap::silence);
    }

    /// Once so many more frames have passed in a direction, nothing passes in it any more.
    pub fn silence_after(&self, direction: Direction, frames: u64) {
        self.each(move |tap| tap.end_after(direction, frames, 0, End::Silence));
    }

    /// From now on everything arrives so much later, in both directions, on the broker's clock.
    pub fn delay(&self, time: impl Into<Period>) {
        let delay = time.into().duration();
        self.each(move |tap| tap.delay(delay));
    }

    /// Closes it with `connection.close`, as an operator does with 320.
    ///
    /// # Panics
    /// For the [next connection](Faults::next_connection), which is not there yet.
    pub fn close(&self, code: u16, text: &str) {
        let ids = self.ids();
        self.broker.change(|engine, now| ids.iter().for_each(|id| engine.close_by_number(now, *id, code, text)));
    }

    /// Closes one of its channels with `channel.close`.
    ///
    /// # Panics
    /// As [`Disturb::close`].
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
            Which::Next => panic!("a connection that is not there yet can't be closed: cut it after some frames"),
        }
    }

    fn each(&self, disturb: impl FnOnce(&Tap) + Clone + Send + 'static) {
        let Some(taps) = &self.broker.0.testing.taps else { panic!("this broker's connections are not watched") };
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
