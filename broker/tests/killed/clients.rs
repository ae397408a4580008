//! The clients that work until the broker is killed. Each ends with its first error.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::Sender;

use hopmq_blocking::{Confirm, Result};

use crate::ledger::{BATCHES, Ledger, MARKS, PARTS, WORK, body, number_of, part};
use crate::program::channel;
use crate::random::Random;

/// Publishes that are not confirmed, at most.
const WINDOW: usize = 100;

/// Publishes numbered messages, and records which are confirmed.
pub(crate) fn publish(uri: &str, ledger: &Ledger, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        let mut waiting: VecDeque<(u64, Confirm)> = VecDeque::new();
        loop {
            while waiting.len() > random.below(WINDOW as u64) as usize {
                let Some((number, confirm)) = waiting.pop_front() else { break };
                confirm.wait()?;
                ledger.confirmed(number);
                let _ = event.send(());
            }
            let number = ledger.next();
            let publish = channel.publish("", WORK, body(number)).persistent();
            waiting.push_back((number, publish.confirm_later()?));
        }
    };
    let _killed = work();
}

/// Consumes: acks at once or later, requeues, and from time to time waits until all acks are safe.
pub(crate) fn consume(uri: &str, ledger: &Ledger, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        let mut held = Vec::new();
        let mut acked = Vec::new();
        let mut returned = BTreeSet::new();
        let mut highest = 0;
        for delivery in channel.consume(WORK).prefetch(30).start()? {
            let delivery = delivery?;
            let number = number_of(delivery.body());
            assert!(number > highest || returned.remove(&number), "{number} came after {highest}");
            highest = highest.max(number);
            ledger.delivered(number, delivery.redelivered());
            match random.below(8) {
                0 => {
                    returned.insert(number);
                    delivery.reject(true)?;
                }
                1 => held.push((number, delivery)),
                _ => {
                    ledger.acked(number);
                    delivery.ack()?;
                    acked.push(number);
                }
            }
            if held.len() > 10 {
                let (number, delivery) = held.swap_remove(random.below(10) as usize);
                ledger.acked(number);
                delivery.ack()?;
                acked.push(number);
            }
            if acked.len() > 50 {
                // The reply shows that the broker has handled the acks; the confirm, that they are safe.
                channel.queue(WORK).declare_passive()?;
                channel.publish("", MARKS, "x").persistent().confirm()?;
                ledger.settled(acked.drain(..));
                let _ = event.send(());
            }
        }
        Ok(())
    };
    let _killed = work();
}

/// Publishes messages in transactions, and records which are committed.
pub(crate) fn commit(uri: &str, ledger: &Ledger, mut random: Random, event: &Sender<()>) {
    let mut work = || -> Result<()> {
        let (_connection, channel) = channel(uri)?;
        channel.tx_select()?;
        loop {
            let batch = ledger.next_batch();
            for number in 0..PARTS {
                channel.publish("", BATCHES, part(batch, number)).persistent().send()?;
            }
            if random.below(5) == 0 {
                channel.tx_rollback()?;
                ledger.rolled_back(batch);
                continue;
            }
            channel.tx_commit()?;
            ledger.committed(batch);
            let _ = event.send(());
        }
    };
    let _killed = work();
}
