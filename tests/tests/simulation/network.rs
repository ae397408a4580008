//! A seeded network: it delays and splits all bytes, keeps their order, and breaks on request.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use hopmq::{Error, ErrorKind, Time};

use crate::tap::Tap;
use crate::world::Random;

/// The network. Clones share one network.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    now: Time,
    random: Random,
    links: Vec<Arc<Mutex<Link>>>,
    /// Connects fail until this time.
    down: Time,
    violations: Arc<Mutex<Vec<String>>>,
}

/// One connection.
struct Link {
    random: Random,
    now: Time,
    /// The direction to the server, and that to the client.
    directions: [Direction; 2],
    /// Bytes are dropped, and neither end is notified.
    half_open: bool,
    /// Decodes the bytes that arrive at the server.
    tap: Tap,
    violations: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Direction {
    /// Bytes in flight, with the time at which they arrive.
    bytes: VecDeque<(Time, VecDeque<u8>)>,
    size: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writing end has closed.
    eof: bool,
    broken: bool,
}

/// Bytes in flight in one direction, at most.
const CAPACITY: usize = 32 * 1024;
/// The latency of a byte in milliseconds, at most.
const LATENCY: u64 = 40;

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x5eed);
        Self(Arc::new(Mutex::new(State {
            now: Time::ZERO,
            random,
            links: Vec::new(),
            down: Time::ZERO,
            violations: Arc::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no task panics with the lock")
    }

    /// Connects. Returns the client's end and the server's end.
    ///
    /// # Errors
    /// If the network is down.
    pub(crate) fn dial(&self, now: Time) -> hopmq::Result<(End, End)> {
        let mut state = self.lock();
        if now < state.down {
            return Err(Error::new(ErrorKind::Io, "the network is down"));
        }
        let random = Random::new(state.random.below(u64::MAX));
        let violations = Arc::clone(&state.violations);
        let link = Link { random, now, directions: Default::default(), half_open: false, tap: Tap::new(), violations };
        let link = Arc::new(Mutex::new(link));
        state.links.push(Arc::clone(&link));
        Ok((End { link: Arc::clone(&link), side: 0 }, End { link, side: 1 }))
    }

    /// Returns the next time at which bytes arrive.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let state = self.lock();
        let arrivals = state.links.iter().filter_map(|link| {
            let link = link.lock().expect("no task panics with the lock");
            link.directions.iter().filter_map(|way| Some(way.bytes.front()?.0)).filter(|time| *time > state.now).min()
        });
        arrivals.min()
    }

    /// Sets the time, and wakes the readers of bytes that have arrived.
    pub(crate) fn arrive(&self, now: Time) {
        let mut state = self.lock();
        state.now = now;
        state.links.retain(|link| Arc::strong_count(link) > 1);
        let links = state.links.clone();
        drop(state);
        for link in links {
            let mut link = link.lock().expect("no task panics with the lock");
            link.now = now;
            let readers = link.directions.iter_mut().filter(|way| way.bytes.front().is_some_and(|(at, _)| *at <= now));
            let wakers: Vec<Waker> = readers.filter_map(|way| way.reader.take()).collect();
            drop(link);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Injects a random fault: links are cut with or without the bytes in flight, or go half open, or connects fail for
    /// a while.
    pub(crate) fn fault(&self, now: Time, random: &mut Random) {
        let kind = random.below(5);
        let mut state = self.lock();
        if kind == 0 {
            state.down = now + Duration::from_millis(random.below(20_000));
        }
        let links = state.links.clone();
        drop(state);
        for link in links {
            // Most faults affect only some links.
            if random.below(3) == 0 {
                continue;
            }
            let mut link = link.lock().expect("no task panics with the lock");
            match kind {
                1 => link.half_open = true,
                2 => link.directions.iter_mut().for_each(|way| way.eof = true),
                _ => link.cut(),
            }
            let wakers = link.wakers();
            drop(link);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns the protocol violations of clients.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.lock().expect("no task panics with the lock").clone()
    }

    pub(crate) fn heal(&self) {
        self.lock().down = Time::ZERO;
    }
}

impl Link {
    fn cut(&mut self) {
        for way in &mut self.directions {
            way.broken = true;
            way.bytes.clear();
            way.size = 0;
        }
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.directions.iter_mut().flat_map(|way| [way.reader.take(), way.writer.take()]).flatten().collect()
    }
}

/// One end of a connection.
pub(crate) struct End {
    link: Arc<Mutex<Link>>,
    /// 0 for the client's end, 1 for the server's.
    side: usize,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock().expect("no task panics with the lock");
        let now = link.now;
        let most = 1 + link.random.below(2000) as usize;
        let way = &mut link.directions[1 - self.side];
        if way.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = match way.bytes.front_mut() {
            Some((at, bytes)) if *at <= now => {
                let count = bytes.len().min(buffer.len()).min(most);
                for (slot, byte) in buffer.iter_mut().zip(bytes.drain(..count)) {
                    *slot = byte;
                }
                if bytes.is_empty() {
                    way.bytes.pop_front();
                }
                count
            }
            None if way.eof => return Poll::Ready(Ok(0)),
            _ => {
                let spent = way.reader.replace(context.waker().clone());
                drop(link);
                drop(spent);
                return Poll::Pending;
            }
        };
        way.size -= count;
        let writer = way.writer.take();
        if self.side == 1
            && let Some(violation) = link.tap.decode(&buffer[..count])
        {
            link.violations.lock().expect("no task panics with the lock").push(violation);
        }
        drop(link);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock().expect("no task panics with the lock");
        let most = 1 + link.random.below(3000) as usize;
        let latency = link.random.below(LATENCY);
        let now = link.now;
        let half_open = link.half_open;
        let way = &mut link.directions[self.side];
        if way.broken || way.eof {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(most).min(CAPACITY.saturating_sub(way.size));
        if count == 0 {
            let spent = way.writer.replace(context.waker().clone());
            drop(link);
            drop(spent);
            return Poll::Pending;
        }
        if half_open {
            // The bytes fill the network's buffers, and stay there.
            way.size += count;
            return Poll::Ready(Ok(count));
        }
        let at = (now + Duration::from_millis(latency)).max(way.bytes.back().map_or(now, |(at, _)| *at));
        way.bytes.push_back((at, bytes[..count].iter().copied().collect()));
        way.size += count;
        let reader = if at <= now { way.reader.take() } else { None };
        drop(link);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.lock().expect("no task panics with the lock");
        let way = &mut link.directions[self.side];
        way.eof = true;
        let reader = way.reader.take();
        drop(link);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut link = self.link.lock().expect("no task panics with the lock");
        // The other end of a half-open link is not notified.
        if link.half_open {
            return;
        }
        let side = self.side;
        link.directions[side].eof = true;
        link.directions[1 - side].broken = true;
        let wakers = link.wakers();
        drop(link);
        wakers.into_iter().for_each(Waker::wake);
    }
}
