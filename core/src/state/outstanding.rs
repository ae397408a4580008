//! The unconfirmed publishes of all channels: their number, and the bytes kept to publish them again.

/// How many publishes wait, and how many bytes of them are kept to publish them again.
#[derive(Debug)]
pub(crate) struct Outstanding {
    publishes: usize,
    kept: usize,
    /// Publishing waits while this many bytes are kept.
    kept_limit: usize,
}

impl Outstanding {
    pub(super) fn new(kept_limit: usize) -> Self {
        Self { publishes: 0, kept: 0, kept_limit }
    }

    #[inline]
    pub(super) fn publishes(&self) -> usize {
        self.publishes
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.kept >= self.kept_limit
    }

    #[inline]
    pub(super) fn add(&mut self) {
        self.publishes += 1;
    }

    #[inline]
    pub(super) fn remove(&mut self, count: usize) {
        self.publishes -= count;
    }

    #[inline]
    pub(super) fn keep(&mut self, bytes: usize) {
        self.kept += bytes;
    }

    #[inline]
    pub(super) fn release(&mut self, bytes: usize) {
        self.kept -= bytes;
    }
}
