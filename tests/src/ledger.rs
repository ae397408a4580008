//! A ledger of published, confirmed and consumed messages: no confirmed message may be missing in the end.

use std::fmt::Display;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::{Failure, Outcome};

/// The ledger of one run. It takes a byte for each message, and wakes tasks that wait for a balance.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Whether each message is confirmed, and how often it was consumed; indexed by its number.
    messages: Vec<u8>,
    balance: Balance,
    /// Why the run can't continue.
    failed: Option<String>,
    waiting: Vec<Waker>,
}

/// The bit of a confirmed message. The lower bits count how often it was consumed.
const CONFIRMED: u8 = 0x80;

/// The totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Messages that the publishers began to publish.
    pub published: u64,
    /// Messages that the broker confirmed.
    pub confirmed: u64,
    /// Messages that were confirmed, but not consumed.
    pub lost: u64,
    /// Messages that were consumed more than once.
    pub duplicated: u64,
    /// Deliveries of messages that were never published.
    pub unexpected: u64,
}

impl Display for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { published, confirmed, lost, duplicated, unexpected } = self;
        write!(f, "{published} published, {confirmed} confirmed, {lost} lost, {duplicated} duplicated")?;
        if *unexpected > 0 { write!(f, ", {unexpected} never published") } else { Ok(()) }
    }
}

impl Ledger {
    /// Returns the bytes of memory that the ledger takes.
    pub fn size(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).messages.capacity()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = change(&mut entries);
        let waiting = std::mem::take(&mut entries.waiting);
        drop(entries);
        waiting.into_iter().for_each(Waker::wake);
        value
    }

    /// Adds a message, and returns its number.
    pub fn publish(&self) -> u64 {
        self.change(|entries| {
            entries.messages.push(0);
            entries.balance.published += 1;
            entries.balance.published - 1
        })
    }

    /// Records that the broker has confirmed a message.
    pub fn confirmed(&self, id: u64) {
        self.change(|Entries { messages, balance, .. }| {
            let message = &mut messages[id as usize];
            if *message & CONFIRMED == 0 {
                balance.confirmed += 1;
                balance.lost += u64::from(*message == 0);
                *message |= CONFIRMED;
            }
        });
    }

    /// Records that a message was consumed.
    pub fn consumed(&self, id: u64) {
        self.change(|Entries { messages, balance, .. }| {
            let Some(message) = messages.get_mut(id as usize) else {
                balance.unexpected += 1;
                return;
            };
            match *message & !CONFIRMED {
                0 => balance.lost -= u64::from(*message & CONFIRMED != 0),
                1 => balance.duplicated += 1,
                // Counts up to two.
                _ => return,
            }
            *message += 1;
        });
    }

    /// Returns the numbers of the first lost messages, at most 20.
    pub fn lost(&self) -> Vec<usize> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| **message == CONFIRMED)
            .map(|(id, _)| id)
            .take(20)
            .collect()
    }

    /// Ends the run: [`Ledger::until`] fails with the first reason.
    pub fn fail(&self, why: impl Display) {
        self.change(|entries| entries.failed.get_or_insert_with(|| why.to_string()).len());
    }

    /// Returns the totals so far.
    pub fn balance(&self) -> Balance {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).balance
    }

    /// Waits until `is` returns true for the totals, and returns them.
    ///
    /// # Errors
    /// If the run has failed.
    pub async fn until(&self, is: impl Fn(&Balance) -> bool) -> Outcome<Balance> {
        poll_fn(|context| {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if is(&entries.balance) {
                return Poll::Ready(Ok(entries.balance));
            }
            if let Some(why) = &entries.failed {
                return Poll::Ready(Err(Failure::new(why)));
            }
            entries.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn the_balance_counts_lost_and_duplicated_messages() {
        let ledger = Ledger::default();
        let ids: Vec<u64> = (0..3).map(|_| ledger.publish()).collect();
        ids.iter().for_each(|id| ledger.confirmed(*id));
        ledger.confirmed(ids[0]);
        for id in [ids[0], ids[0], ids[0], ids[1], 17] {
            ledger.consumed(id);
        }
        let expected = Balance { published: 3, confirmed: 3, lost: 1, duplicated: 1, unexpected: 1 };
        assert_eq!(ledger.balance(), expected);
        // A message that is consumed before its confirm arrives is not lost.
        let early = ledger.publish();
        ledger.consumed(early);
        ledger.confirmed(early);
        assert_eq!(ledger.balance().lost, 1);
    }

    #[test]
    fn until_returns_the_balance_or_the_failure() {
        let ledger = Ledger::default();
        let id = ledger.publish();
        block_on(async {
            let mut waiting = std::pin::pin!(ledger.until(|balance| balance.confirmed == 1));
            assert!(poll_once(waiting.as_mut()).await.is_none());
            ledger.confirmed(id);
            assert_eq!(waiting.await.unwrap().lost, 1);
            ledger.fail("the consumer ended");
            assert!(ledger.until(|balance| balance.lost == 0).await.unwrap_err().to_string().contains("ended"));
        });
    }
}
