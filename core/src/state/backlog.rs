//! The output backlog: the publishers that wait for room, and how much output may gather before it is written.
//!
//! The bytes themselves belong to the protocol connection.

use hopmq_proto::SortedMap;

use super::keys::RequestKey;

/// The bookkeeping of the output backlog. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The waiting publishers, in the order of their arrival.
    waiting: SortedMap<u64, Waiting>,
    arrivals: u64,
    /// Bytes for publishers that were admitted and have not published yet: other publishers can't use this room before
    /// the driver's next poll.
    reserved: usize,
    /// Publishing waits while this many bytes wait to be written.
    limit: usize,
    /// Bytes that may gather before the driver is woken for them.
    gather: usize,
    /// Publishes that the driver has taken to write them.
    taken: u64,
    /// Whether the next output is written by the thread that makes it: the program has just taken the confirm of its
    /// only unconfirmed publish, and will probably wait for the next one.
    at_once: bool,
}

/// A publisher that waits for room.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The request that is answered when the publisher is admitted.
    request: RequestKey,
    size: usize,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Self {
        Self { waiting: SortedMap::new(), arrivals: 0, reserved: 0, limit, gather: 0, taken: 0, at_once: false }
    }

    /// Whether a publisher may add to `queued` bytes. One that was admitted uses the room that was reserved for it.
    #[inline]
    pub(super) fn has_room(&self, queued: usize, admitted: bool) -> bool {
        let reserved = if admitted { 0 } else { self.reserved };
        queued + reserved < self.limit
    }

    /// Returns a place among the waiting publishers.
    pub(super) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn wait(&mut self, place: u64, request: RequestKey, size: usize) {
        self.waiting.insert(place, Waiting { request, size });
    }

    pub(super) fn leave(&mut self, place: u64) {
        self.waiting.remove(&place);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Releases the room that was reserved for an admitted publisher, which publishes now.
    pub(super) fn claim(&mut self, size: usize) {
        self.reserved = self.reserved.saturating_sub(size);
    }

    pub(super) fn has_reserved(&self) -> bool {
        self.reserved > 0
    }

    /// Frees the room of admitted publishers that have not published: they have had their turn.
    pub(super) fn expire_reserved(&mut self) {
        self.reserved = 0;
    }

    /// Whether waiting publishers can be admitted while `queued` bytes wait to be written.
    pub(super) fn may_admit(&self, queued: usize) -> bool {
        !self.waiting.is_empty() && queued <= self.limit / 2
    }

    /// Admits the waiting publishers that `admit` is true for, in the order of their arrival. It gets the request of a
    /// publisher, and whether there is room.
    pub(super) fn admit(&mut self, queued: usize, mut admit: impl FnMut(RequestKey, bool) -> bool) {
        let Self { waiting, reserved, limit, .. } = self;
        waiting.retain(|_, publisher| {
            let admitted = admit(publisher.request, *reserved + queued < *limit);
            if admitted {
                *reserved += publisher.size;
            }
            !admitted
        });
    }

    #[inline]
    pub(super) fn gather(&self) -> usize {
        self.gather
    }

    pub(super) fn set_gather(&mut self, bytes: usize) {
        self.gather = bytes;
    }

    /// Notes that the driver has taken the first `published` publishes to write them.
    pub(super) fn set_taken(&mut self, published: u64) {
        self.taken = published;
    }

    /// Whether the driver has taken the `count`-th publish.
    #[inline]
    pub(super) fn is_taken(&self, count: u64) -> bool {
        count <= self.taken
    }

    pub(super) fn set_written_at_once(&mut self) {
        self.at_once = true;
    }

    #[inline]
    pub(super) fn take_written_at_once(&mut self) -> bool {
        std::mem::take(&mut self.at_once)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.waiting.len(), self.reserved)
    }
}
