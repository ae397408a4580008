//! Deliveries in large prebuilt writes: only the delivery tags change from one write to the next.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bench_wire::Frames;

use crate::link::Output;

/// About how much one write takes, in bytes.
const WRITE: usize = 256 << 10;

/// What a consumer asked for.
pub struct Order {
    pub channel: u16,
    pub consumer_tag: String,
    pub queue: String,
    pub size: usize,
    pub count: u64,
    /// The largest frame that the client takes, in bytes.
    pub frame_max: usize,
    /// How many deliveries may wait for their acknowledgement; 0 is as many as there are.
    pub window: u64,
}

impl Order {
    /// What `flood-SIZE-COUNT` asks for: its body size in bytes, and how many messages.
    pub fn parse(queue: &str) -> Option<(usize, u64)> {
        let (size, count) = queue.strip_prefix("flood-")?.split_once('-')?;
        Some((size.parse().ok().filter(|size| *size <= 16 << 20)?, count.parse().ok()?))
    }
}

/// What the reader of a connection tells its flood.
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

    /// How many are acknowledged by now.
    pub fn acked(&self, total: u64) {
        self.acked.store(total, Ordering::Release);
    }

    pub fn wake(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// How many more may be sent when `sent` are; waits while none may, and is 0 when the flood is over.
    fn room(&self, sent: u64, window: u64) -> u64 {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return 0;
            }
            let waiting = sent.saturating_sub(self.acked.load(Ordering::Acquire));
            if window == 0 || waiting < window {
                return if window == 0 { u64::MAX } else { window - waiting };
            }
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Floods until the order is filled, the consumer is cancelled, or the connection ends.
pub fn run(order: &Order, output: &Output, control: &Arc<Control>) {
    let mut block = Block::new(order);
    let mut sent = 0;
    while sent < order.count {
        let room = control.room(sent, order.window);
        if room == 0 {
            return;
        }
        let n = room.min(block.starts.len() as u64).min(order.count - sent);
        if output.send(block.numbered(sent + 1, n as usize)).is_err() {
            return;
        }
        sent += n;
    }
}

/// Some deliveries in a row.
struct Block {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    /// Where the delivery tag stands in each.
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

    /// The first `count` of them, their tags counting up from `first`.
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
