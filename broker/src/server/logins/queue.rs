//! The order in which logins are verified: fair between addresses.
//!
//! Owns the tickets of waiting logins: those that are ready, and those that must wait until a time. Tickets come in
//! with the address of the client; out goes the next one. Each address has one turn after another, and within one the
//! order of arrival holds. It must never know why a ticket waits. Each operation costs a logarithm of the tickets.

use std::collections::{BTreeSet, HashMap};

use hopmq_proto::Time;

use super::throttle::Source;

/// A waiting login.
pub(super) type Ticket = u64;

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At its turn.
    Ready(u64),
    Delayed(Time),
}

/// The tickets of an address.
#[derive(Debug, Default)]
struct Line {
    count: usize,
    /// The turn of its last ticket.
    last: u64,
}

/// See the [module's documentation](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: HashMap<Ticket, (Option<Source>, Place)>,
    ready: BTreeSet<(u64, Ticket)>,
    delayed: BTreeSet<(Time, Ticket)>,
    lines: HashMap<Option<Source>, Line>,
    /// The turn that is served.
    turn: u64,
}

impl Queue {
    pub(super) fn push(&mut self, source: Option<Source>, ticket: Ticket) {
        self.lines.entry(source).or_default().count += 1;
        self.make_ready(source, ticket);
    }

    fn make_ready(&mut self, source: Option<Source>, ticket: Ticket) {
        let line = self.lines.entry(source).or_default();
        line.last = line.last.max(self.turn) + 1;
        self.ready.insert((line.last, ticket));
        self.places.insert(ticket, (source, Place::Ready(line.last)));
    }

    /// Returns the next ticket. Those whose time has come are ready again.
    pub(super) fn first(&mut self, now: Time) -> Option<Ticket> {
        while let Some(&(until, ticket)) = self.delayed.first()
            && until <= now
        {
            self.delayed.pop_first();
            if let Some((source, _)) = self.places.get(&ticket).copied() {
                self.make_ready(source, ticket);
            }
        }
        self.ready.first().map(|(_, ticket)| *ticket)
    }

    /// Makes a ticket wait until a time.
    pub(super) fn delay(&mut self, ticket: Ticket, until: Time) {
        self.unplace(ticket);
        if let Some((_, place)) = self.places.get_mut(&ticket) {
            *place = Place::Delayed(until);
            self.delayed.insert((until, ticket));
        }
    }

    /// Returns until when a ticket waits, if it does.
    pub(super) fn delayed_until(&self, ticket: Ticket) -> Option<Time> {
        match self.places.get(&ticket)?.1 {
            Place::Delayed(until) => Some(until),
            Place::Ready(_) => None,
        }
    }

    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.unplace(ticket);
        let Some((source, _)) = self.places.remove(&ticket) else { return };
        if let Some(line) = self.lines.get_mut(&source) {
            line.count -= 1;
            if line.count == 0 {
                self.lines.remove(&source);
            }
        }
    }

    fn unplace(&mut self, ticket: Ticket) {
        match self.places.get(&ticket) {
            Some((_, Place::Ready(turn))) => {
                if self.ready.first() == Some(&(*turn, ticket)) {
                    self.turn = *turn;
                }
                self.ready.remove(&(*turn, ticket))
            }
            Some((_, Place::Delayed(until))) => self.delayed.remove(&(*until, ticket)),
            None => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(number: u8) -> Option<Source> {
        Some(Source::of([192, 0, 2, number].into()))
    }

    fn take(queue: &mut Queue, now: Time) -> Option<Ticket> {
        let ticket = queue.first(now)?;
        queue.remove(ticket);
        Some(ticket)
    }

    #[test]
    fn addresses_have_their_turns_whatever_each_has_waiting() {
        let mut queue = Queue::default();
        (0..1_000).for_each(|ticket| queue.push(source(1), ticket));
        assert_eq!(take(&mut queue, Time::ZERO), Some(0));
        queue.push(source(2), 5_000);
        queue.push(source(2), 5_001);
        queue.push(source(3), 6_000);
        let order: Vec<_> = (0..6).filter_map(|_| take(&mut queue, Time::ZERO)).collect();
        assert_eq!(order, [1, 5_000, 6_000, 2, 5_001, 3]);
        (4..1_000).for_each(|ticket| assert_eq!(take(&mut queue, Time::ZERO), Some(ticket)));
        assert!(queue.first(Time::ZERO).is_none() && queue.places.is_empty() && queue.lines.is_empty());
    }

    #[test]
    fn a_delayed_ticket_returns_at_its_time() {
        let mut queue = Queue::default();
        let later = Time::ZERO + Duration::from_secs(2);
        (0..3).for_each(|ticket| queue.push(source(1), ticket));
        queue.delay(0, later);
        queue.delay(1, later);
        queue.remove(1);
        assert_eq!((queue.delayed_until(0), queue.delayed_until(2)), (Some(later), None));
        assert_eq!((take(&mut queue, Time::ZERO), take(&mut queue, Time::ZERO)), (Some(2), None));
        assert_eq!((take(&mut queue, later), take(&mut queue, later)), (Some(0), None));
        assert!(queue.places.is_empty() && queue.lines.is_empty() && queue.delayed.is_empty());
    }
}
