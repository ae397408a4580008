//! The publishes of one channel that wait for the broker's confirm, and who waits for them.
//!
//! Owns a ring with one place for each publish from the oldest unsettled one on. The broker's confirms come in, wakers
//! go out. A confirmed publish leaves nothing behind; one that failed is remembered until its waiter has asked.

use std::collections::{HashMap, VecDeque};
use std::task::{Poll, Waker};

use crate::state::journal::{Journal, Kept};
use crate::{Error, ErrorKind, Result, Returned};

/// The ring. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The tag of the first place.
    base: u64,
    places: VecDeque<Place>,
    /// Publishes that were not taken well and whose waiter has not asked yet.
    failed: HashMap<u64, Error>,
    unsettled: usize,
    /// Publishes on links of before: the broker's tags begin after them.
    offset: u64,
    /// The publishes of the ring as they were made, if they are to be made again.
    pub(crate) journal: Option<Journal>,
    /// Those that were made again on the present link, in the order of the broker's tags.
    again: Vec<u64>,
}

#[derive(Debug)]
enum Place {
    /// Nobody wants to know.
    Unawaited,
    /// Somebody will ask.
    Held,
    /// Somebody waits.
    Waiting(Waker),
    Settled,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            base: 1,
            places: VecDeque::new(),
            failed: HashMap::new(),
            unsettled: 0,
            offset: 0,
            journal: None,
            again: Vec::new(),
        }
    }
}

impl Confirms {
    /// A ring that keeps the publishes themselves, or not.
    pub(crate) fn keeping(keeping: bool) -> Self {
        Self { journal: keeping.then(Journal::default), ..Self::default() }
    }

    /// Counts a publish, and returns its tag. Tags start at 1, as the broker's do, and go on where the broker's start
    /// anew on another link.
    #[inline]
    pub(crate) fn push(&mut self, held: bool) -> u64 {
        let tag = self.base + self.places.len() as u64;
        self.places.push_back(if held { Place::Held } else { Place::Unawaited });
        self.unsettled += 1;
        tag
    }

    /// The link is gone, and with it the confirms that had not come: those publishes end. Returns how many they were.
    pub(crate) fn lose(&mut self, error: &Error, wakes: &mut Vec<Waker>) -> usize {
        let base = self.base;
        self.again.clear();
        self.journal = self.journal.is_some().then(Journal::default);
        self.offset = base + self.places.len() as u64 - 1;
        self.base = self.offset + 1;
        for (tag, place) in (base..).zip(self.places.drain(..)) {
            if !matches!(place, Place::Settled | Place::Unawaited) {
                self.failed.entry(tag).or_insert_with(|| error.clone());
            }
            if let Place::Waiting(waker) = place {
                wakes.push(waker);
            }
        }
        std::mem::take(&mut self.unsettled)
    }

    /// Makes the publishes that are not settled again, by `publish`, in their order. Returns how many they were.
    pub(crate) fn publish_again(&mut self, mut publish: impl FnMut(Kept<'_>) -> Result<()>) -> Result<usize> {
        self.again.clear();
        let tags = self.base..;
        let Some(journal) = &self.journal else { return Ok(0) };
        for ((tag, place), kept) in tags.zip(&self.places).zip(journal.iter()) {
            if !matches!(place, Place::Settled) {
                publish(kept)?;
                self.again.push(tag);
            }
        }
        self.offset = self.base + self.places.len() as u64 - 1;
        Ok(self.again.len())
    }

    /// The publish that the broker knows by another tag since the link was lost.
    fn own(&self, tag: u64) -> u64 {
        match self.again.get((tag as usize).wrapping_sub(1)) {
            Some(own) => *own,
            None => tag - self.again.len() as u64 + self.offset,
        }
    }

    /// Bytes that are kept to publish them again.
    #[inline]
    pub(crate) fn kept(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::size)
    }

    /// How many publishes wait for the broker.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The broker confirmed or refused a range of its tags. Returns how many of them had not been settled before.
    pub(crate) fn settle(&mut self, mut first: u64, last: u64, ack: bool, wakes: &mut Vec<Waker>) -> usize {
        let mut count = 0;
        while first <= last && first <= self.again.len() as u64 {
            let own = self.own(first);
            count += self.settle_own(own, own, ack, wakes);
            first += 1;
        }
        if first <= last {
            count += self.settle_own(self.own(first), self.own(last), ack, wakes);
        }
        count
    }

    #[inline]
    fn settle_own(&mut self, first: u64, last: u64, ack: bool, wakes: &mut Vec<Waker>) -> usize {
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
                self.failed.entry(tag).or_insert_with(nacked);
            }
            if let Place::Waiting(waker) = place {
                wakes.push(waker);
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

    /// A publish came back; the confirm that follows doesn't make it good. Returns the message if nobody awaits it.
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

    /// What became of a publish.
    pub(crate) fn poll(&mut self, tag: u64, waker: &Waker, spent: &mut Vec<Waker>) -> Poll<Result<()>> {
        if let Some(place) = tag.checked_sub(self.base).and_then(|index| self.places.get_mut(index as usize))
            && !matches!(place, Place::Settled)
        {
            if !matches!(place, Place::Waiting(known) if known.will_wake(waker))
                && let Place::Waiting(displaced) = std::mem::replace(place, Place::Waiting(waker.clone()))
            {
                spent.push(displaced);
            }
            return Poll::Pending;
        }
        if self.failed.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.failed.remove(&tag).map_or(Ok(()), Err))
    }

    /// Nobody wants to know any more.
    pub(crate) fn forget(&mut self, tag: u64, spent: &mut Vec<Waker>) {
        if !self.failed.is_empty() {
            self.failed.remove(&tag);
        }
        if let Some(place) = tag.checked_sub(self.base).and_then(|index| self.places.get_mut(index as usize))
            && !matches!(place, Place::Settled)
            && let Place::Waiting(waker) = std::mem::replace(place, Place::Unawaited)
        {
            spent.push(waker);
        }
    }

    /// No confirm will come any more: whoever waits is to ask again, and gets `error` from whoever ended it.
    pub(crate) fn abort(&mut self, wakes: &mut Vec<Waker>) {
        for place in &mut self.places {
            if let Place::Waiting(_) = place
                && let Place::Waiting(waker) = std::mem::replace(place, Place::Held)
            {
                wakes.push(waker);
            }
        }
    }

    /// What became of a publish, once no confirm can come: `None` if nobody knows.
    pub(crate) fn outcome(&mut self, tag: u64) -> Option<Result<()>> {
        match self.poll(tag, Waker::noop(), &mut Vec::new()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

fn nacked() -> Error {
    Error::new(ErrorKind::Nacked, "the broker could not take care of the message (basic.nack): publish it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(confirms: &mut Confirms, tag: u64) -> Option<bool> {
        match confirms.poll(tag, Waker::noop(), &mut Vec::new()) {
            Poll::Pending => None,
            Poll::Ready(result) => Some(result.is_ok()),
        }
    }

    #[test]
    fn each_publish_gets_its_own_outcome() {
        let mut confirms = Confirms::default();
        let mut wakes = Vec::new();
        for _ in 1..=6 {
            confirms.push(true);
        }
        assert_eq!(polled(&mut confirms, 3), None);
        assert_eq!(confirms.settle(3, 3, false, &mut wakes), 1);
        assert_eq!(wakes.len(), 1);
        assert_eq!(confirms.settle(1, 4, true, &mut wakes), 3);
        assert_eq!(polled(&mut confirms, 1), Some(true));
        assert_eq!(polled(&mut confirms, 3), Some(false));
        assert_eq!(polled(&mut confirms, 4), Some(true));
        assert_eq!(polled(&mut confirms, 5), None);
        confirms.forget(5, &mut Vec::new());
        assert_eq!(confirms.settle(5, 6, false, &mut wakes), 2);
        assert_eq!(polled(&mut confirms, 6), Some(false));
        assert_eq!((confirms.unsettled(), confirms.places.len(), confirms.failed.len()), (0, 0, 0));
    }
}
