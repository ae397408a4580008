//! What clients do until the broker is killed: each ends with the first error.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::Sender;

use hopmq_blocking::{Confirm, Result};

use crate::book::{BATCHES, Book, MARKS, PARTS, WORK, body, number_of, part};
use crate::program::channel;
use crate::random::Random;

/// Publishes that are not confirmed.
const WINDOW: usize = 100;

/// Publishes numbered messages, and notes which are confirmed.
pub(crate) fn publish(uri: &str, book: &Book, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        let mut waiting: VecDeque<(u64, Confirm)> = VecDeque::new();
        loop {
            while waiting.len() > random.below(WINDOW as u64) as usize {
                let Some((number, confirm)) = waiting.pop_front() else { break };
                confirm.wait()?;
                book.confirmed(number);
                let _ = event.send(());
            }
            let number = book.next();
            let publish = channel.publish("", WORK, body(number)).persistent();
            waiting.push_back((number, publish.confirm_later()?));
        }
    };
    let _killed = work();
}

/// Consumes: acks, now and later, gives back, and from time to time makes sure that acks are safe.
pub(crate) fn consume(uri: &str, book: &Book, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        let (mut held, mut acked, mut returned, mut highest) = (Vec::new(), Vec::new(), BTreeSet::new(), 0);
        for delivery in channel.consume(WORK).prefetch(30).start()? {
            let delivery = delivery?;
            let number = number_of(delivery.body());
            assert!(number > highest || returned.remove(&number), "{number} came after {highest}");
            highest = highest.max(number);
            book.delivered(number, delivery.redelivered());
            match random.below(8) {
                0 => {
                    returned.insert(number);
                    delivery.reject(true)?;
                }
                1 => held.push((number, delivery)),
                _ => {
                    book.acked(number);
                    delivery.ack()?;
                    acked.push(number);
                }
            }
            if held.len() > 10 {
                let (number, delivery) = held.swap_remove(random.below(10) as usize);
                book.acked(number);
                delivery.ack()?;
                acked.push(number);
            }
            if acked.len() > 50 {
                // An answer says that the broker has seen the acks; a confirm, that what it has seen is safe.
                channel.queue(WORK).declare_passive()?;
                channel.publish("", MARKS, "x").persistent().confirm()?;
                book.settled(acked.drain(..));
                let _ = event.send(());
            }
        }
        Ok(())
    };
    let _killed = work();
}

/// Publishes some messages at a time, in a transaction, and notes which are committed.
pub(crate) fn commit(uri: &str, book: &Book, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        channel.tx_select()?;
        loop {
            let batch = book.next_batch();
            for number in 0..PARTS {
                channel.publish("", BATCHES, part(batch, number)).persistent().send()?;
            }
            if random.below(5) == 0 {
                channel.tx_rollback()?;
                book.rolled_back(batch);
                continue;
            }
            channel.tx_commit()?;
            book.committed(batch);
            let _ = event.send(());
        }
    };
    let _killed = work();
}
