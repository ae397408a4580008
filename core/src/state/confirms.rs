//! The unconfirmed publishes of one channel, and the futures that wait for their confirms.
//!
//! Owns a ring with one place for each publish, starting at the oldest unsettled one. A confirmed publish leaves no
//! trace; the error of a failed publish is kept until its future takes the error.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

use hopmq_proto::{Body, Prepared, Properties, Route, SortedMap};

use super::journal::{Journal, Kept};
use super::wakers::Wakers;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Returned;

/// The ring. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The tag of the first place.
    base: u64,
    places: VecDeque<Place>,
    /// The errors of failed publishes that their futures have not taken yet.
    failed: SortedMap<u64, Error>,
    unsettled: usize,
    /// The number of publishes on earlier links. The broker's tags of the present link begin after them.
    offset: u64,
    /// Copies of the publishes in the ring, if they are published again after the link is lost.
    journal: Option<Journal>,
    /// The tags of the publishes that were published again on the present link, in the order of the broker's tags.
    republished: Vec<u64>,
}

#[derive(Debug)]
enum Place {
    /// No future will ask for the outcome.
    Unawaited,
    /// A future will ask for the outcome.
    Held,
    /// A future waits for the outcome.
    Waiting(Waker),
    Settled,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            base: 1,
            places: VecDeque::new(),
            failed: SortedMap::new(),
            unsettled: 0,
            offset: 0,
            journal: None,
            republished: Vec::new(),
        }
    }
}

impl Confirms {
    /// Returns an empty ring, which keeps publishes to publish them again if `republishes`.
    pub(crate) fn new(republishes: bool) -> Self {
        Self { journal: republishes.then(Journal::default), ..Self::default() }
    }

    /// Whether publishes are kept to publish them again.
    pub(crate) fn republishes(&self) -> bool {
        self.journal.is_some()
    }

    /// Keeps a copy of a publish that is about to be sent. Returns the size of the copy in bytes.
    #[inline]
    pub(crate) fn keep(&mut self, route: Route<'_>, properties: Properties<&[u8]>, body: &Body<'_>) -> usize {
        let Some(journal) = &mut self.journal else { return 0 };
        let before = journal.size();
        journal.push(route, properties, body);
        journal.size() - before
    }

    /// Keeps the body of a publish that is about to be sent, with its route and properties. Returns the size of the
    /// copy in bytes.
    #[inline]
    pub(crate) fn keep_prepared(&mut self, message: &Arc<Prepared>, body: &Body<'_>) -> usize {
        let Some(journal) = &mut self.journal else { return 0 };
        let before = journal.size();
        journal.push_prepared(message, body);
        journal.size() - before
    }

    /// Removes the last copy, because its publish was not sent. Returns the size of the copy in bytes.
    #[cold]
    pub(crate) fn unkeep(&mut self) -> usize {
        let Some(journal) = &mut self.journal else { return 0 };
        let before = journal.size();
        journal.pop_back();
        before - journal.size()
    }

    /// Counts a publish, and returns its tag. Tags start at 1, as the broker's do, and continue on another link, where
    /// the broker's start at 1 again.
    #[inline]
    pub(crate) fn push(&mut self, held: bool) -> u64 {
        let tag = self.base + self.places.len() as u64;
        self.places.push_back(if held { Place::Held } else { Place::Unawaited });
        self.unsettled += 1;
        tag
    }

    /// Ends the unsettled publishes with `error`, because their confirms were lost with the link. Returns the number of
    /// publishes.
    pub(crate) fn lose(&mut self, error: &Error, wakers: &mut Wakers) -> usize {
        let base = self.base;
        self.republished.clear();
        self.journal = self.journal.is_some().then(Journal::default);
        self.offset = base + self.places.len() as u64 - 1;
        self.base = self.offset + 1;
        for (tag, place) in (base..).zip(self.places.drain(..)) {
            if !matches!(place, Place::Settled | Place::Unawaited) {
                self.failed.or_insert_with(tag, || error.clone());
            }
            if let Place::Waiting(waker) = place {
                wakers.push(waker);
            }
        }
        std::mem::take(&mut self.unsettled)
    }

    /// Publishes the unsettled publishes again, in their order, by calling `publish`. Returns their number.
    pub(crate) fn republish(&mut self, mut publish: impl FnMut(Kept<'_>) -> Result<()>) -> Result<usize> {
        self.republished.clear();
        let tags = self.base..;
        let Some(journal) = &self.journal else { return Ok(0) };
        for ((tag, place), kept) in tags.zip(&self.places).zip(journal.iter()) {
            if !matches!(place, Place::Settled) {
                publish(kept)?;
                self.republished.push(tag);
            }
        }
        self.offset = self.base + self.places.len() as u64 - 1;
        Ok(self.republished.len())
    }

    /// Returns the tag in this ring for a tag of the broker, which counts from 1 on each link.
    fn own(&self, tag: u64) -> u64 {
        match self.republished.get((tag as usize).wrapping_sub(1)) {
            Some(own) => *own,
            None => tag - self.republished.len() as u64 + self.offset,
        }
    }

    /// Returns the size of the copies in bytes.
    #[inline]
    pub(crate) fn kept(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::size)
    }

    /// Returns how many publishes wait for their confirm.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Settles a range of the broker's tags, which it confirmed or refused. Returns how many were unsettled before.
    pub(crate) fn settle(&mut self, mut first: u64, last: u64, ack: bool, wakers: &mut Wakers) -> usize {
        let mut count = 0;
        while first <= last && first <= self.republished.len() as u64 {
            let own = self.own(first);
            count += self.settle_own(own, own, ack, wakers);
            first += 1;
        }
        if first <= last {
            count += self.settle_own(self.own(first), self.own(last), ack, wakers);
        }
        count
    }

    #[inline]
    fn settle_own(&mut self, first: u64, last: u64, ack: bool, wakers: &mut Wakers) -> usize {
        let from = first.saturating_sub(self.base) as usize;
        let to = (last + 1).saturating_sub(self.base).min(self.places.len() as u64) as usize;
        let mut count = 0;
        for (index, place) in self.places.range_mut(from.min(to)..to).enumerate() {
            let place = std::mem::replace(place, Place::Settled);
            if matches!(place, Place::Settled) {
                continue;
            }
            count += 1;
            if !ack && !matches!(place, Place::Unawaited) {
                let tag = self.base + (from + index) as u64;
                self.failed.or_insert_with(tag, nacked);
            }
            if let Place::Waiting(waker) = place {
                wakers.push(waker);
            }
        }
        while let Some(Place::Settled) = self.places.front() {
            self.places.pop_front();
            self.base += 1;
            if let Some(journal) = &mut self.journal {
                journal.pop_front();
            }
        }
        self.unsettled -= count;
        count
    }

    /// Fails a publish that the broker returned, although an ack follows. Returns the message if no future awaits the
    /// publish.
    pub(crate) fn returned(&mut self, tag: u64, returned: Returned) -> Option<Returned> {
        let tag = self.own(tag);
        match tag.checked_sub(self.base).and_then(|index| self.places.get(index as usize)) {
            Some(Place::Held | Place::Waiting(_)) => {
                self.failed.insert(tag, Error::from_return(returned));
                None
            }
            _ => Some(returned),
        }
    }

    /// Returns the outcome of a publish to its future.
    pub(crate) fn poll(&mut self, tag: u64, waker: &Waker, wakers: &mut Wakers) -> Poll<Result<()>> {
        if self.wait(tag, waker, wakers) {
            return Poll::Pending;
        }
        if self.failed.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.failed.remove(&tag).map_or(Ok(()), Err))
    }

    /// Stores the waker of a future that waits until a publish is settled. Returns false if it is.
    fn wait(&mut self, tag: u64, waker: &Waker, wakers: &mut Wakers) -> bool {
        let Some(place) = self.place_mut(tag) else { return false };
        if !matches!(place, Place::Waiting(known) if known.will_wake(waker))
            && let Place::Waiting(displaced) = std::mem::replace(place, Place::Waiting(waker.clone()))
        {
            wakers.discard(Some(displaced));
        }
        true
    }

    /// Returns the place of a publish that is not settled.
    fn place_mut(&mut self, tag: u64) -> Option<&mut Place> {
        let index = tag.checked_sub(self.base)?;
        self.places.get_mut(index as usize).filter(|place| !matches!(place, Place::Settled))
    }

    /// Waits until the publishes of a range are settled. Removes those from its end that are, so that each is looked at
    /// once: brokers mostly confirm in order, so the last one is settled last.
    pub(crate) fn poll_range(&mut self, tags: &mut Range<u64>, waker: &Waker, wakers: &mut Wakers) -> Poll<()> {
        while tags.end > tags.start.max(self.base) {
            if self.wait(tags.end - 1, waker, wakers) {
                return Poll::Pending;
            }
            tags.end -= 1;
        }
        tags.end = tags.start;
        Poll::Ready(())
    }

    /// Takes the errors of the publishes of a range that have failed, with their tags.
    pub(crate) fn take_failed(&mut self, tags: &Range<u64>) -> Vec<(u64, Error)> {
        let found: Vec<u64> = match tags.end - tags.start < self.failed.len() as u64 {
            true => tags.clone().collect(),
            false => self.failed.keys().copied().filter(|tag| tags.contains(tag)).collect(),
        };
        found.into_iter().filter_map(|tag| Some((tag, self.failed.remove(&tag)?))).collect()
    }

    /// Handles the drop of a publish's future.
    pub(crate) fn forget(&mut self, tag: u64, wakers: &mut Wakers) {
        if !self.failed.is_empty() {
            self.failed.remove(&tag);
        }
        if let Some(place) = self.place_mut(tag)
            && let Place::Waiting(waker) = std::mem::replace(place, Place::Unawaited)
        {
            wakers.discard(Some(waker));
        }
    }

    /// Wakes the waiting futures, which then find the end of the channel: no confirm will arrive any more.
    pub(crate) fn abort(&mut self, wakers: &mut Wakers) {
        self.journal = None;
        for place in &mut self.places {
            if let Place::Waiting(_) = place
                && let Place::Waiting(waker) = std::mem::replace(place, Place::Held)
            {
                wakers.push(waker);
            }
        }
    }

    /// Returns the outcome of a publish, once no confirm can arrive; `None` if it is not known.
    pub(crate) fn outcome(&mut self, tag: u64) -> Option<Result<()>> {
        match self.poll(tag, Waker::noop(), &mut Wakers::default()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

fn nacked() -> Error {
    Error::new(ErrorKind::Nacked, "the broker could not store the message (basic.nack): publish it again")
}

#[cfg(test)]
impl Confirms {
    /// Returns how many errors are kept for futures.
    pub(crate) fn failures(&self) -> usize {
        self.failed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(confirms: &mut Confirms, tag: u64) -> Option<bool> {
        match confirms.poll(tag, Waker::noop(), &mut Wakers::default()) {
            Poll::Pending => None,
            Poll::Ready(result) => Some(result.is_ok()),
        }
    }

    #[test]
    fn each_publish_gets_its_own_outcome() {
        let mut confirms = Confirms::default();
        let mut wakers = Wakers::default();
        for _ in 1..=6 {
            confirms.push(true);
        }
        assert_eq!(polled(&mut confirms, 3), None);
        assert_eq!(confirms.settle(3, 3, false, &mut wakers), 1);
        assert_eq!(wakers.len(), 1);
        assert_eq!(confirms.settle(1, 4, true, &mut wakers), 3);
        assert_eq!(polled(&mut confirms, 1), Some(true));
        assert_eq!(polled(&mut confirms, 3), Some(false));
        assert_eq!(polled(&mut confirms, 4), Some(true));
        assert_eq!(polled(&mut confirms, 5), None);
        confirms.forget(5, &mut Wakers::default());
        assert_eq!(confirms.settle(5, 6, false, &mut wakers), 2);
        assert_eq!(polled(&mut confirms, 6), Some(false));
        assert_eq!((confirms.unsettled(), confirms.places.len(), confirms.failed.len()), (0, 0, 0));
    }

    #[test]
    fn a_range_waits_for_its_last_publish_and_names_those_that_failed() {
        let mut confirms = Confirms::default();
        let mut wakers = Wakers::default();
        for _ in 1..=8 {
            confirms.push(true);
        }
        let mut range = 2..7;
        let mut poll = |confirms: &mut Confirms, wakers: &mut Wakers| {
            confirms.poll_range(&mut range, Waker::noop(), wakers).is_ready()
        };
        assert!(!poll(&mut confirms, &mut wakers));
        // The last one is settled first.
        confirms.settle(6, 6, true, &mut wakers);
        assert_eq!(wakers.len(), 1);
        assert!(!poll(&mut confirms, &mut wakers));
        confirms.settle(3, 3, false, &mut wakers);
        confirms.settle(1, 2, true, &mut wakers);
        assert_eq!(wakers.len(), 1);
        assert!(!poll(&mut confirms, &mut wakers));
        confirms.settle(4, 5, false, &mut wakers);
        assert!(poll(&mut confirms, &mut wakers));
        confirms.settle(8, 8, false, &mut wakers);
        let failed: Vec<u64> = confirms.take_failed(&(2..7)).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!((failed, confirms.failed.len()), (vec![3, 4, 5], 1));
    }
}
