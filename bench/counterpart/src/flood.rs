//! Sends deliveries in large prebuilt writes. Only the delivery tags change from one write to the next.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bench_wire::Frames;

use crate::link::Output;

/// The approximate size of a write, in bytes.
const WRITE: usize = 256 << 10;

/// The flood that a consumer asked for.
pub struct Order {
    pub channel: u16,
    pub consumer_tag: String,
    pub queue: String,
    pub size: usize,
    pub count: u64,
    /// The largest frame that the client accepts, in bytes.
    pub frame_max: usize,
    /// How many deliveries may be unacknowledged; 0 means no limit.
    pub window: u64,
}

impl Order {
    /// Parses `flood-SIZE-COUNT` into the body size in bytes and the number of messages.
    pub fn parse(queue: &str) -> Option<(usize, u64)> {
        let (size, count) = queue.strip_prefix("flood-")?.split_once('-')?;
        Some((size.parse().ok().filter(|size| *size <= 16 << 20)?, count.parse().ok()?))
    }
}

/// Passes acknowledgements and the end from the connection's reader to the flood.
#[derive(Default)]
pub struct Control {
    stopped: AtomicBool,
    acked: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Control {
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Sets the number of acknowledged deliveries.
    pub fn acked(&self, total: u64) {
        self.acked.store(total, Ordering::Release);
    }

    pub fn wake(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until deliveries may be sent, and returns how many; 0 when the flood is stopped.
    fn wait_for_credit(&self, sent: u64, window: u64) -> u64 {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return 0;
            }
            let unacked = sent.saturating_sub(self.acked.load(Ordering::Acquire));
            if window == 0 || unacked < window {
                return if window == 0 { u64::MAX } else { window - unacked };
            }
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Sends deliveries until the order is complete, the consumer is cancelled, or the connection ends.
pub fn run(order: &Order, output: &Output, control: &Arc<Control>) {
    let mut block = Block::new(order);
    let mut sent = 0;
    while sent < order.count {
        let credit = control.wait_for_credit(sent, order.window);
        if credit == 0 {
            return;
        }
        let n = credit.min(block.starts.len() as u64).min(order.count - sent);
        if output.send(block.numbered(sent + 1, n as usize)).is_err() {
            return;
        }
        sent += n;
    }
}

/// Consecutive deliveries.
struct Block {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    /// The position of the delivery tag in each.
    tag: Range<usize>,
    each: usize,
}

impl Block {
    fn new(order: &Order) -> Self {
        let body = vec![b'x'; order.size];
        let mut frames = Frames::default();
        let mut starts = Vec::new();
        while frames.0.is_empty() || frames.0.len() < WRITE {
            starts.push(frames.0.len());
            frames.method(order.channel, 60, 60, |f| {
                f.short(&order.consumer_tag).u64(0).u8(0).short("").short(&order.queue);
            });
            frames.content_in(order.channel, &body, order.frame_max);
        }
        let tag = bench_wire::HEAD + 4 + 1 + order.consumer_tag.len();
        let each = frames.0.len() / starts.len();
        Self { bytes: frames.0, starts, tag: tag..tag + 8, each }
    }

    /// Returns the first `count` deliveries, with tags that count up from `first`.
    fn numbered(&mut self, first: u64, count: usize) -> &[u8] {
        for (tag, start) in (first..).zip(&self.starts[..count]) {
            self.bytes[start + self.tag.start..start + self.tag.end].copy_from_slice(&tag.to_be_bytes());
        }
        &self.bytes[..count * self.each]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_wire::{Fields, HEAD, Head};

    #[test]
    fn tags_count_up_across_writes() {
        let order = Order {
            channel: 1,
            consumer_tag: "c".into(),
            queue: "flood-100-9".into(),
            size: 100,
            count: 9,
            frame_max: bench_wire::FRAME_MAX,
            window: 0,
        };
        assert_eq!(Order::parse(&order.queue), Some((100, 9)));
        let mut block = Block::new(&order);
        for first in [1, 4] {
            let bytes = block.numbered(first, 3).to_vec();
            let mut rest = &bytes[..];
            for expected in first..first + 3 {
                let head = Head::parse(rest).unwrap();
                let mut fields = Fields(&rest[HEAD..HEAD + head.size]);
                assert_eq!((fields.u16(), fields.u16(), fields.short(), fields.u64()), (60, 60, "c", expected));
                for _ in 0..3 {
                    rest = &rest[Head::parse(rest).unwrap().total()..];
                }
            }
            assert!(rest.is_empty());
        }
    }
}
