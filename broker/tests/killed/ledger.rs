//! The ledger: what the clients know of each message, to compare with what the broker has after a kill.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use hopmq_blocking::Channel;

use crate::program::{Program, channel};

pub(crate) const WORK: &str = "work";
pub(crate) const BATCHES: &str = "batches";
/// A queue for messages of which only the confirm matters.
pub(crate) const MARKS: &str = "marks";
/// Messages of a transaction.
pub(crate) const PARTS: u64 = 3;
/// Messages that a check leaves in a queue, at most.
const KEPT: usize = 1000;

/// See the [module's documentation](self).
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    sent: u64,
    confirmed: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    /// An ack was sent, but may not have reached the broker.
    acked: BTreeSet<u64>,
    /// The ack is safe.
    settled: BTreeSet<u64>,
    batches: u64,
    committed: BTreeSet<u64>,
    rolled_back: BTreeSet<u64>,
    redelivered: u64,
}

/// Returns the body of a message: its number, then a length that makes the store use all its kinds of files.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let len = match number {
        _ if number % 499 == 498 => 1_100_000,
        _ if number % 31 == 30 => 20_000,
        _ => number % 300,
    };
    let mut body = number.to_le_bytes().to_vec();
    body.extend((0..len).map(|at| (at ^ number) as u8));
    body
}

pub(crate) fn number_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("a body begins with its number"))
}

pub(crate) fn part(batch: u64, number: u64) -> Vec<u8> {
    (batch * PARTS + number).to_le_bytes().to_vec()
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("no client panics with the lock")
    }

    pub(crate) fn next(&self) -> u64 {
        let mut entries = self.entries();
        entries.sent += 1;
        entries.sent
    }

    pub(crate) fn confirmed(&self, number: u64) {
        self.entries().confirmed.insert(number);
    }

    pub(crate) fn delivered(&self, number: u64, redelivered: bool) {
        let mut entries = self.entries();
        entries.redelivered += u64::from(redelivered);
        let is_new = entries.delivered.insert(number);
        let settled = entries.settled.contains(&number);
        drop(entries);
        assert!(is_new || redelivered, "{number} was delivered before, but is not marked as redelivered");
        assert!(!settled, "{number} was acked, but is delivered again");
    }

    pub(crate) fn acked(&self, number: u64) {
        self.entries().acked.insert(number);
    }

    pub(crate) fn settled(&self, numbers: impl Iterator<Item = u64>) {
        self.entries().settled.extend(numbers);
    }

    pub(crate) fn next_batch(&self) -> u64 {
        let mut entries = self.entries();
        entries.batches += 1;
        entries.batches
    }

    pub(crate) fn committed(&self, batch: u64) {
        self.entries().committed.insert(batch);
    }

    pub(crate) fn rolled_back(&self, batch: u64) {
        self.entries().rolled_back.insert(batch);
    }

    /// Compares all messages that the broker has with the ledger. Empties long queues.
    pub(crate) fn check(&self, program: &Program, when: &str) {
        let (connection, channel) = channel(&program.uri).unwrap();
        let work = contents(&channel, WORK);
        let batches = contents(&channel, BATCHES);
        let mut entries = self.entries();
        entries.check_work(&work, when);
        entries.check_batches(&batches, when);
        // These messages are purged below.
        if work.len() > KEPT {
            entries.acked.extend(work.iter().map(|(body, _)| number_of(body)));
            entries.settled.extend(work.iter().map(|(body, _)| number_of(body)));
        }
        if batches.len() > KEPT {
            entries.committed.clear();
        }
        drop(entries);
        for (queue, found) in [(WORK, work), (BATCHES, batches)] {
            if found.len() > KEPT {
                empty(&channel, queue);
            }
        }
        connection.close().unwrap();
    }
}

impl Entries {
    fn check_work(&mut self, found: &[(Vec<u8>, bool)], when: &str) {
        let numbers: Vec<u64> = found.iter().map(|(body, _)| number_of(body)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{when}: out of order: {numbers:?}");
        for (bytes, redelivered) in found {
            let number = number_of(bytes);
            assert!(number <= self.sent && *bytes == body(number), "{when}: {number} was not published so");
            assert!(!self.settled.contains(&number), "{when}: {number} was acked, but is in the queue");
            let is_new = !self.delivered.contains(&number) && !self.acked.contains(&number);
            assert!(is_new || *redelivered, "{when}: {number} was delivered, but is not redelivered");
        }
        let there: BTreeSet<u64> = numbers.into_iter().collect();
        let lost: Vec<_> = self.confirmed.iter().filter(|n| !there.contains(n) && !self.acked.contains(n)).collect();
        assert!(lost.is_empty(), "{when}: confirmed and not acked, but lost: {lost:?}");
    }

    fn check_batches(&mut self, found: &[(Vec<u8>, bool)], when: &str) {
        let numbers: Vec<u64> = found.iter().map(|(body, _)| number_of(body)).collect();
        let mut there = BTreeSet::new();
        for parts in numbers.chunks(PARTS as usize) {
            let batch = parts[0] / PARTS;
            let whole: Vec<u64> = (0..PARTS).map(|number| batch * PARTS + number).collect();
            assert_eq!(parts, whole, "{when}: a transaction is incomplete");
            assert!(there.last().is_none_or(|last| *last < batch), "{when}: out of order: {numbers:?}");
            assert!(!self.rolled_back.contains(&batch), "{when}: batch {batch} was rolled back, but is there");
            there.insert(batch);
        }
        let lost: Vec<_> = self.committed.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: committed, but lost: {lost:?}");
    }
}

/// Gets all messages of a queue, and requeues them by closing the channel.
fn contents(channel: &Channel, queue: &str) -> Vec<(Vec<u8>, bool)> {
    let other = channel.connection().channel().unwrap();
    let mut found = Vec::new();
    while let Some(delivery) = other.get(queue).unwrap() {
        found.push((delivery.body().to_vec(), delivery.redelivered()));
    }
    other.close().unwrap();
    found
}

fn empty(channel: &Channel, queue: &str) {
    channel.queue_purge(queue).unwrap();
    // The confirm is sent once the purge and the message are safe.
    channel.publish("", MARKS, "x").persistent().confirm().unwrap();
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let confirmed = entries.confirmed.len();
        let acked = entries.acked.len();
        let settled = entries.settled.len();
        write!(f, "{} published, {confirmed} confirmed, {acked} acked, {settled} of them safely, ", entries.sent)?;
        write!(f, "{} redelivered, {} transactions; none lost, none twice", entries.redelivered, entries.batches)
    }
}
