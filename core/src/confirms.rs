//! The publishes of one channel that wait for the broker's confirm, and who waits for them.
//!
//! Owns a ring with one place for each publish from the oldest unsettled one on. The broker's confirms come in, wakers
//! go out. A confirmed publish leaves nothing behind; one that failed is remembered until its waiter has asked.

use std::collections::{HashMap, VecDeque};
use std::task::{Poll, Waker};

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
        Self { base: 1, places: VecDeque::new(), failed: HashMap::new(), unsettled: 0, offset: 0 }
    }
}

impl Confirms {
    /// Counts a publish, and returns its tag. Tags start at 1, as the broker's do, and go on where the broker's start
    /// anew on another link.
    #[inline]
    pub(crate) fn push(&mut self, held: bool) -> u64 {
        let tag = self.base + self.places.len() as u64;
        self.places.push_back(if held { Place::Held } else { Place::Unawaited });
        self.unsettled += 1;
        tag
    }

    /// The link is gone, and with it the confirms that had not come. Returns how many those were.
    pub(crate) fn lose(&mut self, error: &Error, wakes: &mut Vec<Waker>) -> usize {
        let base = self.base;
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

    /// How many publishes wait for the broker.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The broker confirmed or refused a range of its tags. Returns how many of them had not been settled before.
    pub(crate) fn settle(&mut self, first: u64, last: u64, ack: bool, wakes: &mut Vec<Waker>) -> usize {
        let (first, last) = (first + self.offset, last + self.offset);
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
        }
        self.unsettled -= count;
        count
    }

    /// A publish came back; the confirm that follows doesn't make it good. Returns the message if nobody awaits it.
    pub(crate) fn returned(&mut self, tag: u64, returned: Returned) -> Option<Returned> {
        let tag = tag + self.offset;
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
        Poll::Ready(self.failed.remove(&tag).map_or(Ok(()), Err))
    }

    /// Nobody wants to know any more.
    pub(crate) fn forget(&mut self, tag: u64, spent: &mut Vec<Waker>) {
        self.failed.remove(&tag);
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
