//! The ready messages of a queue, in delivery order.
//!
//! Owns a list for each priority. A returned message goes back to its place. It must never know consumers, or why a
//! message leaves.

use std::collections::VecDeque;

use hopmq_proto::Time;

use crate::engine::invariant::Invariant;
use crate::engine::queue::message::Message;
use crate::store::Position;

/// A message in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its place in the queue. Rises with each new message.
    pub(crate) position: u64,
    pub(crate) content: Kept,
    /// When it expires.
    pub(crate) expires: Option<Time>,
    /// How often it was delivered and returned.
    pub(crate) returned: u32,
    pub(crate) priority: u8,
    /// Whether the message may have been delivered before.
    pub(crate) redelivered: bool,
    /// Whether the store has the message.
    pub(crate) stored: bool,
}

/// Where the content of a message is.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Here(Message),
    /// In the store only. Holds the size of the body in bytes.
    Stored(u32),
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

    #[inline]
    fn body_size(&self) -> u64 {
        match &self.content {
            Kept::Here(message) => message.body_size() as u64,
            Kept::Stored(size) => u64::from(*size),
        }
    }
}

/// Ready messages. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Ready {
    /// By priority, the lowest first; each by position.
    lines: Vec<VecDeque<Entry>>,
    count: usize,
    /// The size of the bodies in bytes.
    bytes: u64,
}

impl Ready {
    pub(crate) fn new(max_priority: u8) -> Self {
        let lines = (0..=max_priority).map(|_| VecDeque::new()).collect();
        Self { lines, count: 0, bytes: 0 }
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

    #[inline]
    fn line(&mut self, priority: u8) -> &mut VecDeque<Entry> {
        let highest = self.lines.len() - 1;
        &mut self.lines[usize::from(priority).min(highest)]
    }

    /// Adds a message behind all others of its priority.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.count += 1;
        self.bytes += entry.body_size();
        self.line(entry.priority).push_back(entry);
    }

    /// Returns a message to its place.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.count += 1;
        self.bytes += entry.body_size();
        let line = self.line(entry.priority);
        let place = match line.front() {
            Some(front) if front.position < entry.position => {
                line.partition_point(|other| other.position < entry.position)
            }
            _ => 0,
        };
        line.insert(place, entry);
    }

    /// Returns the next message to deliver.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Entry> {
        match &self.lines[..] {
            [only] => only.front(),
            lines => lines.iter().rev().find_map(VecDeque::front),
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = match &mut self.lines[..] {
            [only] => only.pop_front(),
            lines => lines.iter_mut().rev().find_map(VecDeque::pop_front),
        }?;
        self.forget(&entry);
        Some(entry)
    }

    /// Removes the messages that were returned more often than `limit`.
    pub(crate) fn take_over_limit(&mut self, limit: u32) -> Vec<Entry> {
        let mut taken = Vec::new();
        for line in &mut self.lines {
            if line.iter().any(|entry| entry.returned > limit) {
                let (over, rest): (VecDeque<_>, _) =
                    std::mem::take(line).into_iter().partition(|entry| entry.returned > limit);
                taken.extend(over);
                *line = rest;
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
        let Some(line) = self.lines.iter().rev().find(|line| !line.is_empty()) else { return Vec::new() };
        let stored = line.iter().take_while(|entry| matches!(entry.content, Kept::Stored(_)));
        stored.take(most).map(|entry| Position(entry.position)).collect()
    }

    /// Sets the contents of the messages that [`Ready::next_stored`] returned, in its order. Removes the lost ones.
    pub(crate) fn fetched(&mut self, messages: Vec<Option<Message>>) {
        let line = self.lines.iter_mut().rev().find(|line| !line.is_empty());
        let Some(line) = line.invariant("message") else { return };
        let mut lost = 0;
        for (index, message) in messages.into_iter().enumerate() {
            let Some(entry) = line.get_mut(index - lost).invariant("message") else { break };
            match message {
                Some(message) => entry.content = Kept::Here(message),
                None => {
                    self.bytes -= entry.body_size();
                    self.count -= 1;
                    line.remove(index - lost);
                    lost += 1;
                }
            }
        }
    }

    /// Removes all messages. Returns them in delivery order.
    pub(crate) fn take(&mut self) -> Vec<Entry> {
        (self.count, self.bytes) = (0, 0);
        self.lines.iter_mut().rev().flat_map(std::mem::take).collect()
    }

    /// Returns all messages in delivery order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().rev().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopmq_proto::Properties;

    fn entry(position: u64, priority: u8) -> Entry {
        let message = Message::new(&mut Vec::new(), b"", b"q", Properties::EMPTY, vec![0; 10].into());
        let content = Kept::Here(message);
        Entry { position, content, expires: None, returned: 0, priority, redelivered: false, stored: false }
    }

    fn positions(ready: &Ready) -> Vec<u64> {
        ready.iter().map(|entry| entry.position).collect()
    }

    #[test]
    fn returned_messages_go_back_to_their_places() {
        let mut ready = Ready::new(0);
        (1..=6).for_each(|position| ready.push(entry(position, 0)));
        let mut held: Vec<Entry> = (0..4).filter_map(|_| ready.pop()).collect();
        for index in [1, 2, 0, 0] {
            ready.put_back(held.remove(index));
        }
        assert_eq!(positions(&ready), [1, 2, 3, 4, 5, 6]);
        assert_eq!((ready.len(), ready.bytes()), (6, 60));
    }

    #[test]
    fn higher_priorities_go_first_and_equal_ones_in_order() {
        let mut ready = Ready::new(3);
        for (position, priority) in [(1, 0), (2, 3), (3, 200), (4, 1)] {
            ready.push(entry(position, priority));
        }
        assert_eq!(positions(&ready), [2, 3, 4, 1]);
        let first = ready.pop().unwrap();
        assert_eq!(ready.front().unwrap().position, 3);
        ready.put_back(first);
        assert_eq!(ready.take().iter().map(|entry| entry.position).collect::<Vec<_>>(), [2, 3, 4, 1]);
        assert!(ready.is_empty() && ready.bytes() == 0);
    }
}
