//! The times when a client's numbered messages were confirmed and delivered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// A log of messages. Those published before [`Log::begin`] do not count.
#[derive(Default)]
pub struct Log {
    published: AtomicU64,
    watch: Mutex<Option<Watch>>,
    changed: Notify,
}

struct Watch {
    since: Instant,
    /// The first message that counts.
    first: u64,
    confirmed: Option<f64>,
    delivered: Option<f64>,
}

impl Log {
    /// Returns the number of the next message.
    pub fn publish(&self) -> u64 {
        self.published.fetch_add(1, Ordering::SeqCst)
    }

    pub fn confirmed(&self, number: u64) {
        self.note(number, |watch| &mut watch.confirmed);
    }

    pub fn delivered(&self, number: u64) {
        self.note(number, |watch| &mut watch.delivered);
    }

    fn note(&self, number: u64, pick: fn(&mut Watch) -> &mut Option<f64>) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watch.as_mut().filter(|watch| number >= watch.first) {
            let time = watch.since.elapsed().as_secs_f64() * 1e3;
            pick(watch).get_or_insert(time);
            self.changed.notify_one();
        }
    }

    /// Starts the clock.
    pub fn begin(&self) {
        let first = self.published.load(Ordering::SeqCst);
        let watch = Watch { since: Instant::now(), first, confirmed: None, delivered: None };
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// Waits until a message was confirmed and one was delivered, and returns both times in milliseconds.
    pub async fn both(&self) -> (f64, f64) {
        loop {
            let known = {
                let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
                watch.as_ref().and_then(|watch| Some((watch.confirmed?, watch.delivered?)))
            };
            if let Some(times) = known {
                return times;
            }
            self.changed.notified().await;
        }
    }
}
