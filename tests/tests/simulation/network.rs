//! A seeded network: it delays and splits everything, reorders nothing, and breaks when it is told to.

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

/// The network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    now: Time,
    random: Random,
    links: Vec<Arc<Mutex<Link>>>,
    /// Nobody gets through until then.
    down: Time,
    complaints: Arc<Mutex<Vec<String>>>,
}

/// One connection.
struct Link {
    random: Random,
    now: Time,
    /// To the server, and to the client.
    directions: [Direction; 2],
    /// Bytes vanish, and nobody is told.
    half_open: bool,
    /// Hears what arrives at the server.
    tap: Tap,
    complaints: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Direction {
    /// What is under way, by when it arrives.
    bytes: VecDeque<(Time, VecDeque<u8>)>,
    size: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writing end is closed.
    eof: bool,
    broken: bool,
}

/// Bytes that are under way at most in one direction.
const CAPACITY: usize = 32 * 1024;
/// The longest that a byte is under way.
const LATENCY: u64 = 40;

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x5eed);
        Self(Arc::new(Mutex::new(State {
            now: Time::ZERO,
            random,
            links: Vec::new(),
            down: Time::ZERO,
            complaints: Arc::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    /// A connection, if somebody gets through: the client's end, and the server's.
    pub(crate) fn dial(&self, now: Time) -> hopmq::Result<(End, End)> {
        let mut state = self.lock();
        if now < state.down {
            return Err(Error::new(ErrorKind::Io, "the network is down"));
        }
        let random = Random::new(state.random.below(u64::MAX));
        let complaints = Arc::clone(&state.complaints);
        let link = Link { random, now, directions: Default::default(), half_open: false, tap: Tap::new(), complaints };
        let link = Arc::new(Mutex::new(link));
        state.links.push(Arc::clone(&link));
        Ok((End { link: Arc::clone(&link), side: 0 }, End { link, side: 1 }))
    }

    /// The next moment at which bytes arrive.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let state = self.lock();
        let arrivals = state.links.iter().filter_map(|link| {
            let link = link.lock().expect("nobody panics with it");
            link.directions.iter().filter_map(|way| Some(way.bytes.front()?.0)).filter(|time| *time > state.now).min()
        });
        arrivals.min()
    }

    /// It is later.
    pub(crate) fn arrive(&self, now: Time) {
        let mut state = self.lock();
        state.now = now;
        state.links.retain(|link| Arc::strong_count(link) > 1);
        let links = state.links.clone();
        drop(state);
        for link in links {
            let mut link = link.lock().expect("nobody panics with it");
            link.now = now;
            let readers = link.directions.iter_mut().filter(|way| way.bytes.front().is_some_and(|(at, _)| *at <= now));
            let wakers: Vec<Waker> = readers.filter_map(|way| way.reader.take()).collect();
            drop(link);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Something breaks: links are cut, with what is under way or after it, go half open, or nobody gets through.
    pub(crate) fn fault(&self, now: Time, random: &mut Random) {
        let kind = random.below(5);
        let mut state = self.lock();
        if kind == 0 {
            state.down = now + Duration::from_millis(random.below(20_000));
        }
        let links = state.links.clone();
        drop(state);
        for link in links {
            // Not all at once, mostly.
            if random.below(3) == 0 {
                continue;
            }
            let mut link = link.lock().expect("nobody panics with it");
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

    /// What clients sent that they must not.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.lock().complaints.lock().expect("nobody panics with it").clone()
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
    /// 0 for the client's, 1 for the server's.
    side: usize,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock().expect("nobody panics with it");
        let (now, most) = (link.now, 1 + link.random.below(2000) as usize);
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
            && let Some(complaint) = link.tap.hear(&buffer[..count])
        {
            link.complaints.lock().expect("nobody panics with it").push(complaint);
        }
        drop(link);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock().expect("nobody panics with it");
        let (most, latency) = (1 + link.random.below(3000) as usize, link.random.below(LATENCY));
        let (now, half_open) = (link.now, link.half_open);
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
            // They fill the buffers of the network, and stay there.
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
        let mut link = self.link.lock().expect("nobody panics with it");
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
        let mut link = self.link.lock().expect("nobody panics with it");
        // A half-open link is one whose other end is not told.
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
