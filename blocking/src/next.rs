//! The outcome of waiting for an item for a limited time.

use std::pin::Pin;
use std::time::Duration;

use futures_lite::{Stream, StreamExt};

use hopmq::{wait, wait_within};

/// The outcome of waiting for an item for a limited time, as by
/// [`Consumer::next_within`](crate::Consumer::next_within).
///
/// ```no_run
/// use std::time::Duration;
///
/// use hopmq_blocking::{Consumer, Next};
///
/// fn work(consumer: &mut Consumer) -> hopmq_blocking::Result<()> {
///     loop {
///         match consumer.next_within(Duration::from_secs(1))? {
///             Next::Item(delivery) => {
///                 delivery.ack()?;
///             }
///             Next::Nothing => println!("nothing to do for a second"),
///             Next::Ended => return Ok(()),
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it may hold an item"]
pub enum Next<T> {
    /// An item came.
    Item(T),
    /// Nothing came in time. An item may come later.
    Nothing,
    /// The iterator has ended: nothing more will come.
    Ended,
}

impl<T> Next<T> {
    /// Returns the item, if one came.
    ///
    /// ```
    /// use hopmq_blocking::Next;
    ///
    /// assert_eq!(Next::Item(7).item(), Some(7));
    /// assert_eq!(Next::<u8>::Nothing.item(), None);
    /// ```
    pub fn item(self) -> Option<T> {
        match self {
            Self::Item(item) => Some(item),
            Self::Nothing | Self::Ended => None,
        }
    }

    /// Returns whether the iterator has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

/// Waits for an item; none if the stream has ended.
#[inline]
pub(crate) fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    wait(stream.next())
}

/// Waits for an item for up to `limit`.
#[inline]
pub(crate) fn next_within<S: Stream + Unpin>(stream: &mut S, limit: Duration) -> Next<S::Item> {
    match wait_within(Pin::new(stream).next(), limit) {
        Some(Some(item)) => Next::Item(item),
        Some(None) => Next::Ended,
        None => Next::Nothing,
    }
}
