//! Who published what, what was confirmed, and what was consumed: nothing that was confirmed may be missing in the end.

use std::fmt::Display;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::{Failure, Outcome};

/// The ledger of one run: a byte for each message, and somebody who waits for what it comes to.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// By its number: whether a message is confirmed, and how often it was consumed.
    messages: Vec<u8>,
    balance: Balance,
    /// Why it can't go on.
    broken: Option<String>,
    waiting: Vec<Waker>,
}

/// Set where a message is confirmed. Below it is how often it was consumed.
const CONFIRMED: u8 = 0x80;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Messages that were to be published.
    pub published: u64,
    /// Messages that the broker confirmed.
    pub confirmed: u64,
    /// Of these, those that nobody consumed.
    pub lost: u64,
    /// Messages that were consumed more than once.
    pub duplicated: u64,
    /// What was consumed and never published.
    pub unexpected: u64,
}

impl Display for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { published, confirmed, lost, duplicated, unexpected } = self;
        write!(f, "{published} published, {confirmed} confirmed, lost {lost}, {duplicated} came twice")?;
        if *unexpected > 0 { write!(f, ", {unexpected} that nobody published") } else { Ok(()) }
    }
}

impl Ledger {
    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).messages.capacity()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = change(&mut books);
        let waiting = std::mem::take(&mut books.waiting);
        drop(books);
        waiting.into_iter().for_each(Waker::wake);
        value
    }

    /// The number of the next message.
    pub fn publish(&self) -> u64 {
        self.change(|books| {
            books.messages.push(0);
            books.balance.published += 1;
            books.balance.published - 1
        })
    }

    /// The broker has confirmed a message.
    pub fn confirmed(&self, id: u64) {
        self.change(|Books { messages, balance, .. }| {
            let message = &mut messages[id as usize];
            if *message & CONFIRMED == 0 {
                balance.confirmed += 1;
                balance.lost += u64::from(*message == 0);
                *message |= CONFIRMED;
            }
        });
    }

    /// A message was consumed.
    pub fn consumed(&self, id: u64) {
        self.change(|Books { messages, balance, .. }| {
            let Some(message) = messages.get_mut(id as usize) else {
                balance.unexpected += 1;
                return;
            };
            match *message & !CONFIRMED {
                0 => balance.lost -= u64::from(*message & CONFIRMED != 0),
                1 => balance.duplicated += 1,
                // Twice is as far as it counts.
                _ => return,
            }
            *message += 1;
        });
    }

    /// It can't go on: whoever waits for something learns why.
    pub fn broken(&self, why: impl Display) {
        self.change(|books| books.broken.get_or_insert_with(|| why.to_string()).len());
    }

    /// What it comes to.
    pub fn balance(&self) -> Balance {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).balance
    }

    /// Waits until it comes to what `is` says.
    ///
    /// # Errors
    /// If it can't go on any more.
    pub async fn until(&self, is: impl Fn(&Balance) -> bool) -> Outcome<Balance> {
        poll_fn(|context| {
            let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if is(&books.balance) {
                return Poll::Ready(Ok(books.balance));
            }
            if let Some(why) = &books.broken {
                return Poll::Ready(Err(Failure::new(why)));
            }
            books.waiting.push(context.waker().clone());
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
    fn it_counts_what_is_confirmed_and_missing() {
        let ledger = Ledger::default();
        let ids: Vec<u64> = (0..3).map(|_| ledger.publish()).collect();
        ids.iter().for_each(|id| ledger.confirmed(*id));
        ledger.confirmed(ids[0]);
        for id in [ids[0], ids[0], ids[0], ids[1], 17] {
            ledger.consumed(id);
        }
        let expected = Balance { published: 3, confirmed: 3, lost: 1, duplicated: 1, unexpected: 1 };
        assert_eq!(ledger.balance(), expected);
        // One that is consumed before its confirm comes is not lost.
        let early = ledger.publish();
        ledger.consumed(early);
        ledger.confirmed(early);
        assert_eq!(ledger.balance().lost, 1);
    }

    #[test]
    fn whoever_waits_learns_what_it_came_to_or_why_not() {
        let ledger = Ledger::default();
        let id = ledger.publish();
        block_on(async {
            let mut waiting = std::pin::pin!(ledger.until(|balance| balance.confirmed == 1));
            assert!(poll_once(waiting.as_mut()).await.is_none());
            ledger.confirmed(id);
            assert_eq!(waiting.await.unwrap().lost, 1);
            ledger.broken("the consumer ended");
            assert!(ledger.until(|balance| balance.lost == 0).await.unwrap_err().to_string().contains("ended"));
        });
    }
}
