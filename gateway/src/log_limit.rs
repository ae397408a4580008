//! Bounds how often a reason is logged, so that clients cannot fill a disk with refusals.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::admission::bucket::Bucket;

/// Lines per second and reason, after a burst.
const LINES_PER_SECOND: f64 = 10.0;
const BURST: f64 = 100.0;

/// What was logged lately, by reason. Reasons are constants, so a peer cannot create new ones.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<HashMap<&'static str, Reason>>);

#[derive(Debug)]
struct Reason {
    lines: Bucket,
    left_out: u64,
}

impl LogLimit {
    /// Returns how many lines of this reason were left out since the last one, or `None` to leave out this one too.
    pub(crate) fn line(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Reason { lines: Bucket::new(LINES_PER_SECOND, BURST, now), left_out: 0 };
        let reason = reasons.entry(reason).or_insert_with(new);
        if reason.lines.take(1.0, now).is_err() {
            reason.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut reason.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_one_reason_is_logged_in_part_and_the_rest_is_counted() {
        let log = LogLimit::default();
        let now = Instant::now();
        let logged = (0..100_000).filter(|_| log.line("origin", now).is_some()).count();
        assert_eq!(logged, 100);
        assert_eq!(log.line("ticket", now), Some(0));
        assert_eq!(log.line("origin", now + Duration::from_secs(1)), Some(99_900));
        assert_eq!(log.line("origin", now + Duration::from_secs(1)), Some(0));
    }
}
