//! The ready messages of a queue, in delivery order.
//!
//! Owns a list for each level of priority. A returned message goes back to its place. All operations on one message are
//! constant, or logarithmic in the number of returned ones. It must never know consumers, or why a message leaves.

use std::collections::BTreeMap;

use hopmq_proto::Time;

use crate::engine::invariant::Invariant;
use crate::engine::queue::message::{Message, Stub};
use crate::engine::queue::pieces::Pieces;
use crate::store::Position;

/// A message in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its place in the queue. Rises with each new message.
    pub(crate) position: u64,
    pub(crate) content: Kept,
    /// When it expires.
    pub(crate) expires: Option<Time>,
    /// How often it was returned in a way that counts towards a delivery limit.
    pub(crate) returned: u32,
    /// How often it was returned, whether or not that counts.
    pub(crate) acquired: u32,
    /// The `priority` of the message.
    pub(crate) priority: Option<u8>,
    /// Whether the message may have been delivered before.
    pub(crate) redelivered: bool,
    /// Whether the store has the message.
    pub(crate) stored: bool,
}

/// Where the content of a message is.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Here(Message),
    /// In the store only.
    Stored(Stub),
}

impl Kept {
    /// Returns the content of a message that was taken away.
    pub(crate) fn emptied(&self) -> Self {
        match self {
            Self::Here(message) => Self::Stored(message.to_stub().emptied()),
            Self::Stored(stub) => Self::Stored(stub.emptied()),
        }
    }
}

impl Entry {
    /// Returns the message, if it is in memory.
    #[inline]
    pub(crate) fn message(&self) -> Option<&Message> {
        match &self.content {
            Kept::Here(message) => Some(message),
            Kept::Stored(_) => None,
        }
    }

    /// Leaves the content to the store, if the store has it. Returns whether that changed anything.
    pub(crate) fn page_out(&mut self) -> bool {
        match &self.content {
            Kept::Here(message) if self.stored => {
                self.content = Kept::Stored(message.to_stub());
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn body_size(&self) -> u64 {
        match &self.content {
            Kept::Here(message) => message.body_size() as u64,
            Kept::Stored(stub) => stub.body_size(),
        }
    }
}

/// The order in which messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The highest priority first, up to the highest one that counts. A message without a priority has 0.
    Highest(u8),
    /// The priorities of a quorum queue in RabbitMQ 4.3: 32, the highest first. A message without a priority has 4.
    Strict,
    /// The priorities of a quorum queue in RabbitMQ 4.0: of three messages, two are above 4 while there are both.
    /// Returned messages go first.
    TwoClasses,
}

// The lines of [`Order::TwoClasses`]. Between them is that of the high class.
const LOW: usize = 0;
const RETURNED: usize = 2;

impl Order {
    fn lines(self) -> usize {
        match self {
            Self::Highest(most) => usize::from(most) + 1,
            Self::Strict => 32,
            Self::TwoClasses => 3,
        }
    }

    /// Returns the line of a message.
    #[inline]
    fn line(self, priority: Option<u8>) -> usize {
        match self {
            Self::Highest(most) => usize::from(priority.unwrap_or(0).min(most)),
            Self::Strict => usize::from(priority.unwrap_or(4).min(31)),
            Self::TwoClasses => usize::from(priority > Some(4)),
        }
    }
}

/// The messages of a level, by position.
#[derive(Debug, Default)]
struct Line {
    all: Pieces<Entry>,
    /// Messages that were returned to a place behind the first. Inserting them would move those before them.
    returned: BTreeMap<u64, Entry>,
}

impl Line {
    #[inline]
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.returned.is_empty()
    }

    /// Whether the first message is a returned one.
    #[inline]
    fn is_returned_first(&self) -> bool {
        let first = self.returned.first_key_value();
        first.is_some_and(|(position, _)| self.all.front().is_none_or(|front| front.position > *position))
    }

    #[inline]
    fn front(&self) -> Option<&Entry> {
        match self.is_returned_first() {
            true => self.returned.first_key_value().map(|(_, entry)| entry),
            false => self.all.front(),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Entry> {
        match self.is_returned_first() {
            true => self.returned.pop_first().map(|(_, entry)| entry),
            false => self.all.pop_front(),
        }
    }

    fn put_back(&mut self, entry: Entry) {
        match self.front() {
            Some(front) if front.position < entry.position => drop(self.returned.insert(entry.position, entry)),
            _ => self.all.push_front(entry),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut all = self.all.iter().peekable();
        let mut returned = self.returned.values().peekable();
        std::iter::from_fn(move || match (all.peek(), returned.peek()) {
            (Some(next), Some(back)) if back.position < next.position => returned.next(),
            (None, _) => returned.next(),
            _ => all.next(),
        })
    }

    /// Returns the message at a position, to be changed.
    fn at(&mut self, position: u64) -> Option<&mut Entry> {
        let Self { all, returned } = self;
        all.get_mut_by_key(&position, |entry| entry.position).or_else(|| returned.get_mut(&position))
    }

    /// Removes the messages for which `is_taken` holds.
    fn take_if(&mut self, is_taken: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let all = std::mem::take(&mut self.all).into_iter().chain(std::mem::take(&mut self.returned).into_values());
        let (mut taken, mut rest): (Vec<_>, Vec<_>) = all.partition(is_taken);
        rest.sort_unstable_by_key(|entry| entry.position);
        taken.sort_unstable_by_key(|entry| entry.position);
        self.all = rest.into_iter().collect();
        taken
    }
}

/// Ready messages. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Ready {
    order: Order,
    /// By level, the lowest first.
    lines: Vec<Line>,
    /// The turn within the three of [`Order::TwoClasses`].
    turn: u8,
    count: usize,
    /// The size of the bodies in bytes.
    bytes: u64,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new(Order::Highest(0))
    }
}

impl Ready {
    pub(crate) fn new(order: Order) -> Self {
        let lines = (0..order.lines()).map(|_| Line::default()).collect();
        Self { order, lines, turn: 0, count: 0, bytes: 0 }
    }

    /// Returns what the empty lists take, in bytes.
    pub(crate) fn lines_size(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a message behind all others of its level.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.count += 1;
        self.bytes += entry.body_size();
        let line = self.order.line(entry.priority);
        self.lines[line].all.push_back(entry);
    }

    /// Returns a message to its place.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.count += 1;
        self.bytes += entry.body_size();
        let line = match self.order {
            Order::TwoClasses => RETURNED,
            order => order.line(entry.priority),
        };
        self.lines[line].put_back(entry);
    }

    /// Returns the line of the next message, where `has` says which lines have one.
    #[inline]
    fn choose(&self, turn: u8, has: impl Fn(usize) -> bool) -> Option<usize> {
        if self.order == Order::TwoClasses && turn == 2 && !has(RETURNED) && has(LOW) {
            return Some(LOW);
        }
        (0..self.lines.len()).rev().find(|line| has(*line))
    }

    /// Returns the turn after a message of a line.
    fn turn_after(&self, turn: u8, line: usize) -> u8 {
        match self.order {
            Order::TwoClasses if line != RETURNED => (turn + 1) % 3,
            _ => turn,
        }
    }

    fn next_line(&self) -> Option<usize> {
        self.choose(self.turn, |line| !self.lines[line].is_empty())
    }

    /// Returns the next message to deliver.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Entry> {
        match &self.lines[..] {
            [only] => only.front(),
            lines => lines[self.next_line()?].front(),
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = match &mut self.lines[..] {
            [only] => only.pop(),
            _ => {
                let line = self.next_line()?;
                self.turn = self.turn_after(self.turn, line);
                self.lines[line].pop()
            }
        }?;
        self.forget(&entry);
        Some(entry)
    }

    /// Removes the messages that were returned more often than `limit`.
    pub(crate) fn take_over_limit(&mut self, limit: u32) -> Vec<Entry> {
        let mut taken = Vec::new();
        for line in &mut self.lines {
            if line.iter().any(|entry| entry.returned > limit) {
                taken.extend(line.take_if(|entry| entry.returned > limit));
            }
        }
        taken.iter().for_each(|entry| self.forget(entry));
        taken
    }

    fn forget(&mut self, entry: &Entry) {
        self.count -= 1;
        self.bytes -= entry.body_size();
    }

    /// Returns when the next message expires. Messages behind it expire once they are the next, as in RabbitMQ.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.front()?.expires
    }

    /// Removes the next message, if it has expired.
    pub(crate) fn pop_expired(&mut self, now: Time) -> Option<Entry> {
        if self.next_expiry()? <= now { self.pop() } else { None }
    }

    /// Returns the positions of the next messages that are in the store only, at most `most`. Empty if the very next
    /// message is in memory.
    pub(crate) fn next_stored(&self, most: usize) -> Vec<Position> {
        let Some(line) = self.next_line() else { return Vec::new() };
        let stored = self.lines[line].iter().take_while(|entry| matches!(entry.content, Kept::Stored(_)));
        stored.take(most).map(|entry| Position(entry.position)).collect()
    }

    /// Sets the contents of the messages that [`Ready::next_stored`] returned. Those that could not be read stay as
    /// they are.
    pub(crate) fn fetched(&mut self, positions: &[Position], messages: Vec<Option<Message>>) {
        let Some(line) = self.next_line().invariant("message") else { return };
        let line = &mut self.lines[line];
        for (Position(position), message) in positions.iter().zip(messages) {
            if let Some(message) = message
                && let Some(entry) = line.at(*position).invariant("message")
            {
                entry.content = Kept::Here(message);
            }
        }
    }

    /// Leaves messages that the store has to it: from the entry `from` on, at most `most` entries. Returns how many
    /// entries there were.
    pub(crate) fn page_out(&mut self, from: usize, most: usize) -> usize {
        let mut visited = 0;
        let mut skip = from;
        for line in self.lines.iter_mut().rev() {
            let start = skip.min(line.all.len());
            skip -= start;
            for entry in line.all.iter_mut_from(start).take(most - visited) {
                entry.page_out();
                visited += 1;
            }
        }
        visited
    }

    /// Removes all messages, whatever their number, in constant time. Returns them.
    pub(crate) fn detach(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.order))
    }

    /// Returns all messages in delivery order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut rest: Vec<_> = self.lines.iter().map(|line| line.iter().peekable()).collect();
        let mut turn = self.turn;
        std::iter::from_fn(move || {
            let has: Vec<bool> = rest.iter_mut().map(|line| line.peek().is_some()).collect();
            let line = self.choose(turn, |line| has[line])?;
            turn = self.turn_after(turn, line);
            rest[line].next()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::meter::Meter;
    use crate::engine::queue::message::{Payload, Scratch};
    use hopmq_proto::Properties;

    fn entry(position: u64, priority: impl Into<Option<u8>>) -> Entry {
        let priority = priority.into();
        let mut scratch = Scratch::new(Meter::of_test());
        let message = Message::new(&mut scratch, b"", b"q", Properties::EMPTY, Payload::Small(&[0; 10]));
        let content = Kept::Here(message);
        Entry {
            position,
            content,
            expires: None,
            returned: 0,
            acquired: 0,
            priority,
            redelivered: false,
            stored: false,
        }
    }

    fn positions(ready: &Ready) -> Vec<u64> {
        ready.iter().map(|entry| entry.position).collect()
    }

    #[test]
    fn returned_messages_go_back_to_their_places() {
        let mut ready = Ready::new(Order::Highest(0));
        (1..=6).for_each(|position| ready.push(entry(position, 0)));
        let mut held: Vec<Entry> = (0..4).filter_map(|_| ready.pop()).collect();
        for index in [1, 2, 0, 0] {
            ready.put_back(held.remove(index));
        }
        assert_eq!(positions(&ready), [1, 2, 3, 4, 5, 6]);
        assert_eq!((ready.len(), ready.bytes()), (6, 60));
    }

    #[test]
    fn messages_that_return_between_others_are_found_at_their_places() {
        let mut ready = Ready::new(Order::Highest(0));
        (1..=9).for_each(|position| ready.push(entry(position, 0)));
        let held: Vec<Entry> = (0..8).filter_map(|_| ready.pop()).collect();
        held.into_iter().filter(|entry| entry.position % 3 > 0).for_each(|entry| ready.put_back(entry));
        assert_eq!(positions(&ready), [1, 2, 4, 5, 7, 8, 9]);
        let mut scratch = Scratch::new(Meter::of_test());
        let fetched = Message::new(&mut scratch, b"", b"fetched", Properties::EMPTY, Payload::Small(&[0; 10]));
        let messages = [Some(&fetched), None, Some(&fetched), None];
        ready.fetched(&[1, 2, 4, 5].map(Position), messages.map(Option::<&Message>::cloned).into());
        let is_fetched = |entry: &&Entry| entry.message().is_some_and(|message| message.routing_key() == b"fetched");
        let found: Vec<u64> = ready.iter().filter(is_fetched).map(|entry| entry.position).collect();
        assert_eq!((found, ready.len(), ready.bytes()), (vec![1, 4], 7, 70));
        let popped = std::iter::from_fn(|| ready.pop()).map(|entry| entry.position);
        assert_eq!(popped.collect::<Vec<_>>(), [1, 2, 4, 5, 7, 8, 9]);
    }

    #[test]
    fn higher_priorities_go_first_and_equal_ones_in_order() {
        let mut ready = Ready::new(Order::Highest(3));
        for (position, priority) in [(1, 0), (2, 3), (3, 200), (4, 1)] {
            ready.push(entry(position, priority));
        }
        assert_eq!(positions(&ready), [2, 3, 4, 1]);
        let first = ready.pop().unwrap();
        assert_eq!(ready.front().unwrap().position, 3);
        ready.put_back(first);
        let mut taken = ready.detach();
        assert_eq!(std::iter::from_fn(|| taken.pop()).map(|entry| entry.position).collect::<Vec<_>>(), [2, 3, 4, 1]);
        assert!(ready.is_empty() && ready.bytes() == 0);
    }

    #[test]
    fn two_of_three_messages_are_of_the_high_class_and_returned_ones_go_first() {
        let mut ready = Ready::new(Order::TwoClasses);
        for (position, priority) in [(1, None), (2, Some(4)), (3, Some(5)), (4, Some(9)), (5, Some(255)), (6, Some(0))]
        {
            ready.push(entry(position, priority));
        }
        assert_eq!(positions(&ready), [3, 4, 1, 5, 2, 6]);
        let first = ready.pop().unwrap();
        ready.put_back(first);
        let second = ready.pop().unwrap();
        assert_eq!(second.position, 3);
        assert_eq!(std::iter::from_fn(|| ready.pop()).map(|entry| entry.position).collect::<Vec<_>>(), [4, 1, 5, 2, 6]);
    }

    #[test]
    fn strict_priorities_end_at_31_and_a_message_without_one_has_4() {
        let mut ready = Ready::new(Order::Strict);
        for (position, priority) in [(1, None), (2, Some(31)), (3, Some(255)), (4, Some(4)), (5, Some(0)), (6, Some(9))]
        {
            ready.push(entry(position, priority));
        }
        assert_eq!(positions(&ready), [2, 3, 6, 1, 4, 5]);
    }
}
