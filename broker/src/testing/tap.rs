//! A transport that records its frames and can be disturbed.
//!
//! Owns the inner transport, its delayed bytes, and the record of its last frames. It finds frames by their headers
//! alone, and changes none of them: it passes them on, late, in part, or not at all. It must never know what the broker
//! does with them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::Time;

use crate::clock::{Alarm, Clock};
use crate::frames::{Frame, Frames};

/// Frames that are recorded for each connection.
const REMEMBERED: usize = 1000;
/// The limit of delayed bytes in one direction.
const DELAYED: usize = 256 * 1024;

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to the broker.
    FromClient = 0,
    /// From the broker to a client.
    ToClient = 1,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) serial: u64,
    pub(super) at: Time,
    pub(super) direction: Direction,
    pub(super) frame: Frame,
}

/// How one direction of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The connection is cut, without a close.
    Cut,
    /// Further bytes are dropped, without telling either end.
    Silence,
}

/// The control of a tapped transport, which sets faults and reads the record.
#[derive(Debug)]
pub(crate) struct Tap {
    line: Mutex<Line>,
    /// Numbers the records of all connections of the broker in order.
    serial: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Line {
    records: VecDeque<Record>,
    /// By direction.
    lanes: [Lane; 2],
    delay: Duration,
    cut: bool,
    wakers: Vec<Waker>,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    frames: Frames,
    /// What happens after so many frames, and so many bytes of the next.
    end: Option<(u64, usize, End)>,
    silent: bool,
}

impl Tap {
    pub(super) fn new(serial: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { line: Mutex::default(), serial: Arc::clone(serial) })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a direction after `frames` more frames, and `bytes` of the next one.
    pub(super) fn end_after(&self, direction: Direction, frames: u64, bytes: usize, end: End) {
        let mut line = self.lock();
        let lane = &mut line.lanes[direction as usize];
        lane.end = Some((lane.frames.count() + frames, bytes, end));
        line.settle_ends();
        wake(line);
    }

    pub(super) fn cut(&self) {
        let mut line = self.lock();
        line.cut = true;
        wake(line);
    }

    pub(super) fn silence(&self) {
        let mut line = self.lock();
        line.lanes.iter_mut().for_each(|lane| lane.silent = true);
    }

    pub(super) fn delay(&self, delay: Duration) {
        let mut line = self.lock();
        line.delay = delay;
        wake(line);
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.lock().records.iter().cloned().collect()
    }
}

/// Wakes the connection, so that it sees the change.
fn wake(mut line: MutexGuard<'_, Line>) {
    let wakers = std::mem::take(&mut line.wakers);
    drop(line);
    wakers.into_iter().for_each(Waker::wake);
}

impl Line {
    fn settle_ends(&mut self) {
        for lane in &mut self.lanes {
            if let Some((frames, bytes, end)) = lane.end
                && (lane.frames.count(), lane.frames.inside()) >= (frames, bytes)
            {
                lane.end = None;
                match end {
                    End::Cut => self.cut = true,
                    End::Silence => lane.silent = true,
                }
            }
        }
    }

    /// Passes bytes in one direction. Returns how many pass; the rest is lost.
    fn pass(&mut self, serial: &AtomicU64, at: Time, direction: Direction, bytes: &[u8]) -> usize {
        let lane = &mut self.lanes[direction as usize];
        if lane.silent {
            return 0;
        }
        let until = lane.end.map(|(frames, bytes, _)| (frames, bytes));
        let records = &mut self.records;
        let passed = lane.frames.feed(bytes, until, |frame| {
            if records.len() == REMEMBERED {
                records.pop_front();
            }
            records.push_back(Record { serial: serial.fetch_add(1, Ordering::Relaxed), at, direction, frame });
        });
        self.settle_ends();
        passed
    }
}

/// A tapped transport. See the [module's documentation](self).
pub(crate) struct Tapped<T> {
    inner: Option<T>,
    tap: Arc<Tap>,
    clock: Clock,
    alarms: [Alarm; 2],
    /// Delayed bytes by direction, each with the time at which they pass.
    delayed: [VecDeque<(Time, Vec<u8>)>; 2],
    /// Whether the client has closed its side.
    finished: bool,
}

impl<T> Tapped<T> {
    pub(crate) fn new(inner: T, tap: Arc<Tap>, clock: &Clock) -> Self {
        let alarms = [clock.alarm(), clock.alarm()];
        Self { inner: Some(inner), tap, clock: clock.clone(), alarms, delayed: Default::default(), finished: false }
    }

    /// Returns the inner transport, unless it is cut. Leaves the waker for changes of the faults.
    fn open(&mut self, context: &Context<'_>) -> io::Result<(&mut T, Duration)> {
        let mut line = self.tap.lock();
        if line.cut {
            self.inner = None;
        } else if !line.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            line.wakers.push(context.waker().clone());
        }
        let delay = line.delay;
        drop(line);
        match &mut self.inner {
            Some(inner) => Ok((inner, delay)),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn is_silent(&self, direction: Direction) -> bool {
        self.tap.lock().lanes[direction as usize].silent
    }

    fn passes(&self, direction: Direction, bytes: &[u8]) -> usize {
        self.tap.lock().pass(&self.tap.serial, self.clock.now(), direction, bytes)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tapped<T> {
    /// Reads ahead into the delayed bytes.
    fn read_ahead(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            let held: usize = self.delayed[0].iter().map(|(_, bytes)| bytes.len()).sum();
            if self.finished || held >= DELAYED {
                return Ok(());
            }
            let now = self.clock.now();
            let (inner, delay) = self.open(context)?;
            let mut bytes = vec![0; 16 * 1024];
            match Pin::new(inner).poll_read(context, &mut bytes) {
                Poll::Ready(count) => {
                    let count = count?;
                    self.finished = count == 0;
                    bytes.truncate(count);
                    self.delayed[0].push_back((now + delay, bytes));
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn read_delayed(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.read_ahead(context)?;
        let Some((due, bytes)) = self.delayed[0].front_mut() else { return Poll::Pending };
        if self.alarms[0].poll_until(*due, context).is_pending() {
            return Poll::Pending;
        }
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        bytes.drain(..count);
        if bytes.is_empty() {
            self.delayed[0].pop_front();
        }
        Poll::Ready(Ok(count))
    }

    /// Writes the bytes that are due. Ready when none are left.
    fn write_delayed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((due, bytes)) = self.delayed[1].front() {
            if self.alarms[1].poll_until(*due, context).is_pending() {
                return Poll::Pending;
            }
            let Some(inner) = &mut self.inner else { return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) };
            match Pin::new(inner).poll_write(context, bytes) {
                Poll::Ready(count) => {
                    let count = count?;
                    if let Some((_, bytes)) = self.delayed[1].front_mut() {
                        bytes.drain(..count);
                        if bytes.is_empty() {
                            self.delayed[1].pop_front();
                        }
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let is_ahead = !self.delayed[0].is_empty();
        let (inner, delay) = self.open(context)?;
        let read = if delay.is_zero() && !is_ahead {
            Pin::new(inner).poll_read(context, into)
        } else {
            self.read_delayed(context, into)
        };
        let Poll::Ready(Ok(count)) = read else { return read };
        if count == 0 {
            return read;
        }
        match self.passes(Direction::FromClient, &into[..count]) {
            // The rest is lost. If the connection was cut, the next call reports it.
            0 if self.is_silent(Direction::FromClient) => Poll::Pending,
            0 => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            passed => Poll::Ready(Ok(passed)),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_silent(Direction::ToClient) {
            return Poll::Ready(Ok(from.len()));
        }
        let (_, delay) = self.open(context)?;
        let held: usize = self.delayed[1].iter().map(|(_, bytes)| bytes.len()).sum();
        if held >= DELAYED && self.write_delayed(context)?.is_pending() {
            return Poll::Pending;
        }
        let from = &from[..from.len().min(DELAYED)];
        // All bytes are taken at once, so that each frame is recorded once, however slowly the client reads.
        let passed = self.passes(Direction::ToClient, from);
        if passed > 0 {
            let due = self.clock.now() + delay;
            self.delayed[1].push_back((due, from[..passed].to_vec()));
            if let Poll::Ready(Err(error)) = self.write_delayed(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_silent(Direction::ToClient) {
            return Poll::Ready(Ok(()));
        }
        if self.write_delayed(context)?.is_pending() {
            return Poll::Pending;
        }
        let (inner, _) = self.open(context)?;
        Pin::new(inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_delayed(context)?.is_pending() {
            return Poll::Pending;
        }
        let (inner, _) = self.open(context)?;
        Pin::new(inner).poll_close(context)
    }
}
