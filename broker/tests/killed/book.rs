//! What the clients know, and whether the broker knows it as well.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use hopmq_blocking::Channel;

use crate::program::{Program, channel};

pub(crate) const WORK: &str = "work";
pub(crate) const BATCHES: &str = "batches";
/// What is published here is of no interest but for its confirm.
pub(crate) const MARKS: &str = "marks";
/// Messages of a transaction.
pub(crate) const PARTS: u64 = 3;
/// Messages of a queue that stay over a check.
const KEPT: usize = 1000;

/// See the [module's documentation](self).
#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    sent: u64,
    confirmed: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    /// An ack was sent: it may have got there or not.
    acked: BTreeSet<u64>,
    /// The ack is safe.
    settled: BTreeSet<u64>,
    batches: u64,
    committed: BTreeSet<u64>,
    rolled_back: BTreeSet<u64>,
    redelivered: u64,
}

/// The body of a message: its number, and so many bytes that all ways of keeping it are taken.
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
    u64::from_le_bytes(body[..8].try_into().expect("it begins with its number"))
}

pub(crate) fn part(batch: u64, number: u64) -> Vec<u8> {
    (batch * PARTS + number).to_le_bytes().to_vec()
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("nobody panics with it")
    }

    pub(crate) fn next(&self) -> u64 {
        let mut pages = self.pages();
        pages.sent += 1;
        pages.sent
    }

    pub(crate) fn confirmed(&self, number: u64) {
        self.pages().confirmed.insert(number);
    }

    pub(crate) fn delivered(&self, number: u64, redelivered: bool) {
        let mut pages = self.pages();
        pages.redelivered += u64::from(redelivered);
        let is_new = pages.delivered.insert(number);
        let settled = pages.settled.contains(&number);
        drop(pages);
        assert!(is_new || redelivered, "{number} was delivered before, and comes as new");
        assert!(!settled, "{number} was acked, and comes again");
    }

    pub(crate) fn acked(&self, number: u64) {
        self.pages().acked.insert(number);
    }

    pub(crate) fn settled(&self, numbers: impl Iterator<Item = u64>) {
        self.pages().settled.extend(numbers);
    }

    pub(crate) fn next_batch(&self) -> u64 {
        let mut pages = self.pages();
        pages.batches += 1;
        pages.batches
    }

    pub(crate) fn committed(&self, batch: u64) {
        self.pages().committed.insert(batch);
    }

    pub(crate) fn rolled_back(&self, batch: u64) {
        self.pages().rolled_back.insert(batch);
    }

    /// Looks at all that the broker has.
    pub(crate) fn check(&self, program: &Program, when: &str) {
        let (connection, channel) = channel(&program.uri).unwrap();
        let work = contents(&channel, WORK);
        let batches = contents(&channel, BATCHES);
        let mut pages = self.pages();
        pages.check_work(&work, when);
        pages.check_batches(&batches, when);
        // What is acked here is known to be gone.
        if work.len() > KEPT {
            pages.acked.extend(work.iter().map(|(body, _)| number_of(body)));
            pages.settled.extend(work.iter().map(|(body, _)| number_of(body)));
        }
        if batches.len() > KEPT {
            pages.committed.clear();
        }
        drop(pages);
        for (queue, found) in [(WORK, work), (BATCHES, batches)] {
            if found.len() > KEPT {
                empty(&channel, queue);
            }
        }
        connection.close().unwrap();
    }
}

impl Pages {
    fn check_work(&mut self, found: &[(Vec<u8>, bool)], when: &str) {
        let numbers: Vec<u64> = found.iter().map(|(body, _)| number_of(body)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{when}: out of order: {numbers:?}");
        for (bytes, redelivered) in found {
            let number = number_of(bytes);
            assert!(number <= self.sent && *bytes == body(number), "{when}: {number} is not what was published");
            assert!(!self.settled.contains(&number), "{when}: {number} was acked, and is there again");
            let is_new = !self.delivered.contains(&number) && !self.acked.contains(&number);
            assert!(is_new || *redelivered, "{when}: {number} was delivered, and comes as new");
        }
        let there: BTreeSet<u64> = numbers.into_iter().collect();
        let lost: Vec<_> = self.confirmed.iter().filter(|n| !there.contains(n) && !self.acked.contains(n)).collect();
        assert!(lost.is_empty(), "{when}: confirmed, not acked, and not there: {lost:?}");
    }

    fn check_batches(&mut self, found: &[(Vec<u8>, bool)], when: &str) {
        let numbers: Vec<u64> = found.iter().map(|(body, _)| number_of(body)).collect();
        let mut there = BTreeSet::new();
        for parts in numbers.chunks(PARTS as usize) {
            let batch = parts[0] / PARTS;
            let whole: Vec<u64> = (0..PARTS).map(|number| batch * PARTS + number).collect();
            assert_eq!(parts, whole, "{when}: a transaction is there in part");
            assert!(there.last().is_none_or(|last| *last < batch), "{when}: out of order: {numbers:?}");
            assert!(!self.rolled_back.contains(&batch), "{when}: batch {batch} was rolled back, and is there");
            there.insert(batch);
        }
        let lost: Vec<_> = self.committed.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: committed, and not there: {lost:?}");
    }
}

/// All that is in a queue. It is given back when the channel ends.
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
    // Its answer is held back until it is safe.
    channel.publish("", MARKS, "x").persistent().confirm().unwrap();
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pages { sent, confirmed, acked, settled, batches, redelivered, .. } = &*self.pages();
        let [confirmed, acked, settled] = [confirmed, acked, settled].map(BTreeSet::len);
        write!(f, "{sent} published, {confirmed} confirmed, {acked} acked, {settled} of them safely, ")?;
        write!(f, "{redelivered} redelivered, {batches} transactions; none lost, none twice")
    }
}
