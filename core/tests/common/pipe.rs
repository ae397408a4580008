//! The network: two byte streams of limited capacity, which can be sliced, stalled, cut and reset.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use super::Random;

pub(crate) fn pipe(capacity: usize) -> (Transport, Wire) {
    let [to_server, to_client] = [(); 2].map(|()| Direction::new(capacity));
    let both = Both { to_server, to_client, closed: false, server: None };
    let wire = Wire(Arc::new(Mutex::new(both)));
    (Transport(wire.clone()), wire)
}

/// How many bytes move at a time.
#[derive(Clone, Debug)]
pub(crate) enum Slice {
    Whole,
    Bytes(usize),
    /// Any number, and sometimes none at first.
    Random(Random),
}

struct Both {
    to_server: Direction,
    to_client: Direction,
    /// The client has closed or dropped its end.
    closed: bool,
    /// The waker of a server that runs as a task.
    server: Option<Waker>,
}

impl Both {
    fn wake_server(&mut self) {
        if let Some(waker) = self.server.take() {
            waker.wake();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.wake_server();
    }
}

struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    slice: Slice,
    /// The waker of the client, which waits to read or to write.
    waker: Option<Waker>,
    stalled: bool,
    eof: bool,
    error: Option<io::ErrorKind>,
    /// How many bytes the client has read or written.
    moved: u64,
}

impl Direction {
    fn new(capacity: usize) -> Self {
        let bytes = VecDeque::new();
        Self { bytes, capacity, slice: Slice::Whole, waker: None, stalled: false, eof: false, error: None, moved: 0 }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns how many of `count` bytes move now.
    fn slice(&mut self, count: usize, context: &Context<'_>) -> Option<usize> {
        match &mut self.slice {
            Slice::Whole => Some(count),
            Slice::Bytes(most) => Some(count.min(*most)),
            Slice::Random(random) => match random.below(8) {
                0 => {
                    context.waker().wake_by_ref();
                    None
                }
                1..=4 => Some(1 + random.below(count.min(8))),
                _ => Some(1 + random.below(count)),
            },
        }
    }
}

/// The server's end, through which tests also disturb the network.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Both>>);

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Both> {
        self.0.lock().expect("no thread panics while it holds the lock")
    }

    /// Reads all available bytes, as the server.
    pub(crate) fn read(&self, into: &mut Vec<u8>) -> usize {
        let mut both = self.lock();
        let count = both.to_server.bytes.len();
        into.extend(both.to_server.bytes.drain(..));
        if count > 0 {
            both.to_server.wake();
        }
        count
    }

    /// Writes as many bytes as there is room for, as the server.
    pub(crate) fn write(&self, bytes: &mut VecDeque<u8>) -> usize {
        let mut both = self.lock();
        let direction = &mut both.to_client;
        if direction.eof || direction.error.is_some() {
            bytes.clear();
        }
        let count = bytes.len().min(direction.capacity.saturating_sub(direction.bytes.len()));
        direction.bytes.extend(bytes.drain(..count));
        if count > 0 && !direction.stalled {
            direction.wake();
        }
        count
    }

    /// Closes the server's end: the client reads the bytes in flight, then the end of the stream.
    pub(crate) fn cut(&self) {
        let mut both = self.lock();
        both.to_client.eof = true;
        both.to_client.wake();
    }

    /// Resets the connection: bytes in flight are lost.
    pub(crate) fn reset(&self) {
        let mut both = self.lock();
        both.to_client.bytes.clear();
        both.to_client.error = Some(io::ErrorKind::ConnectionReset);
        both.to_server.error = Some(io::ErrorKind::BrokenPipe);
        both.to_client.wake();
        both.to_server.wake();
    }

    /// Makes the client's writes fail from now on; its reads continue.
    pub(crate) fn fail_writes(&self, error: io::ErrorKind) {
        let mut both = self.lock();
        both.to_server.error = Some(error);
        both.to_server.wake();
    }

    /// Sets whether the network refuses to take bytes from the client.
    pub(crate) fn stall_writes(&self, stalled: bool) {
        let mut both = self.lock();
        both.to_server.stalled = stalled;
        both.to_server.wake();
    }

    /// Sets whether the network withholds bytes from the client.
    pub(crate) fn stall_reads(&self, stalled: bool) {
        let mut both = self.lock();
        both.to_client.stalled = stalled;
        both.to_client.wake();
    }

    /// Sets how bytes are sliced in both directions.
    pub(crate) fn slice(&self, slice: &Slice) {
        let mut both = self.lock();
        both.to_server.slice = slice.clone();
        both.to_client.slice = slice.clone();
    }

    /// Wakes a server's task when the client next reads, writes or closes.
    pub(super) fn register(&self, waker: &Waker) {
        self.lock().server = Some(waker.clone());
    }

    /// Returns whether the client has closed its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns how many bytes the client has read.
    pub(crate) fn read_by_client(&self) -> u64 {
        self.lock().to_client.moved
    }

    /// Returns how many bytes the client has written.
    pub(crate) fn written_by_client(&self) -> u64 {
        self.lock().to_server.moved
    }
}

/// The client's end.
pub(crate) struct Transport(Wire);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut both = self.0.lock();
        let direction = &mut both.to_client;
        if let Some(error) = direction.error {
            return Poll::Ready(Err(error.into()));
        }
        let most = direction.bytes.len().min(into.len());
        if direction.stalled || most == 0 {
            if direction.eof && !direction.stalled {
                return Poll::Ready(Ok(0));
            }
            direction.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let Some(count) = direction.slice(most, context) else { return Poll::Pending };
        for (slot, byte) in into.iter_mut().zip(direction.bytes.drain(..count)) {
            *slot = byte;
        }
        direction.moved += count as u64;
        both.wake_server();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let mut both = self.0.lock();
        let direction = &mut both.to_server;
        if let Some(error) = direction.error {
            return Poll::Ready(Err(error.into()));
        }
        let most = from.len().min(direction.capacity.saturating_sub(direction.bytes.len()));
        if direction.stalled || most == 0 {
            direction.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let Some(count) = direction.slice(most, context) else { return Poll::Pending };
        direction.bytes.extend(&from[..count]);
        direction.moved += count as u64;
        both.wake_server();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.0.lock().close();
    }
}
