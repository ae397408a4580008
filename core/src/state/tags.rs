//! The tags of a batch of publishes, in the order of the batch.
//!
//! Owns ranges of tags: other publishes of the channel may come between those of the batch. It must never know what a
//! confirm is.

use std::ops::Range;
use std::task::{Poll, Waker};

use super::confirms::Confirms;
use super::wakers::Wakers;
use crate::error::{Error, Result};

/// The tags of a batch. See the [module's documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    ranges: Vec<Range<u64>>,
    count: usize,
}

impl Tags {
    /// Returns how many publishes the batch has.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds a publish; its tag is zero if the channel does not confirm publishes.
    #[inline]
    pub(super) fn push(&mut self, tag: u64) {
        self.count += 1;
        match self.ranges.last_mut() {
            Some(last) if last.end == tag => last.end += 1,
            _ if tag == 0 => {}
            _ => self.ranges.push(tag..tag + 1),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().cloned().flatten()
    }

    /// Waits until all are settled, and removes those that are.
    pub(super) fn poll(&mut self, confirms: &mut Confirms, waker: &Waker, wakers: &mut Wakers) -> Poll<()> {
        while let Some(last) = self.ranges.last_mut() {
            if confirms.poll_range(last, waker, wakers).is_pending() {
                return Poll::Pending;
            }
            self.ranges.pop();
        }
        Poll::Ready(())
    }

    /// Returns the failed publishes by their index in the batch; `take` returns those of a range by their tags.
    pub(super) fn failed(&self, mut take: impl FnMut(&Range<u64>) -> Vec<(u64, Error)>) -> Vec<(usize, Error)> {
        let mut failed = Vec::new();
        let mut index = 0;
        for range in &self.ranges {
            let taken = take(range).into_iter();
            failed.extend(taken.map(|(tag, error)| (index + (tag - range.start) as usize, error)));
            index += (range.end - range.start) as usize;
        }
        failed
    }

    /// Returns the publishes whose outcome is an error, by their index in the batch.
    pub(super) fn outcomes(&self, mut outcome: impl FnMut(u64) -> Result<()>) -> Vec<(usize, Error)> {
        let outcomes = self.iter().map(|tag| outcome(tag).err());
        outcomes.enumerate().filter_map(|(index, error)| Some((index, error?))).collect()
    }
}
