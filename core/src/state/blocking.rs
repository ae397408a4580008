//! Whether the broker blocks publishing (`connection.blocked`).

use std::time::Duration;

use hopmq_proto::Time;

/// When the broker began to block publishing, and why.
#[derive(Debug, Default)]
pub(crate) struct Blocking {
    current: Option<Blocked>,
    /// When the broker last took the block back.
    unblocked: Time,
}

#[derive(Debug)]
struct Blocked {
    since: Time,
    reason: String,
}

impl Blocking {
    pub(super) fn begin(&mut self, now: Time, reason: String) {
        let since = self.current.take().map_or(now, |blocked| blocked.since);
        self.current = Some(Blocked { since, reason });
    }

    /// Ends the block. Returns how long it lasted, if there was one.
    pub(super) fn end(&mut self, now: Time) -> Option<Duration> {
        let blocked = self.current.take()?;
        self.unblocked = now;
        Some(now - blocked.since)
    }

    /// Returns the broker's reason: `low on disk`, …
    pub(super) fn reason(&self) -> Option<&str> {
        self.current.as_ref().map(|blocked| &*blocked.reason)
    }

    /// Returns the end of a sentence about a timeout: empty unless the broker blocks.
    pub(super) fn describe(&self) -> String {
        self.reason().map_or(String::new(), |reason| format!("; the broker blocks publishing ({reason})"))
    }

    /// Returns how long the present block has lasted.
    pub(super) fn elapsed(&self, now: Time) -> Duration {
        self.current.as_ref().map_or(Duration::ZERO, |blocked| now - blocked.since)
    }

    /// Returns the end of the last block; `None` while the broker blocks.
    pub(super) fn unblocked(&self) -> Option<Time> {
        if self.current.is_some() { None } else { Some(self.unblocked) }
    }
}
