//! A connection within the process: two bounded byte streams.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

/// The capacity of one direction, in bytes.
const CAPACITY: usize = 256 * 1024;

/// One end of a connection within the process, a transport for a client. Dropping it closes both directions: the other
/// end reads what was written before, and then the end of the stream.
///
/// Nothing in it depends on randomness or time, so that a test that polls both ends by hand sees the same in each run.
pub struct Pipe {
    reads: Arc<Mutex<Stream>>,
    writes: Arc<Mutex<Stream>>,
}

#[derive(Default)]
struct Stream {
    /// Written and unread bytes, behind those that were read.
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that were read.
    read: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writing end is closed: no more bytes will come.
    finished: bool,
    /// The reading end is closed: bytes can't be read any more.
    abandoned: bool,
}

/// Returns the two ends of a new connection.
pub(crate) fn pipe() -> (Pipe, Pipe) {
    let [there, back] = [0, 1].map(|_| Arc::new(Mutex::new(Stream::default())));
    (Pipe { reads: Arc::clone(&back), writes: Arc::clone(&there) }, Pipe { reads: there, writes: back })
}

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = lock(&self.reads);
        let unread = &stream.bytes[stream.read..];
        if unread.is_empty() {
            if stream.finished {
                return Poll::Ready(Ok(0));
            }
            stream.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = unread.len().min(into.len());
        into[..count].copy_from_slice(&unread[..count]);
        stream.read += count;
        if stream.read == stream.bytes.len() {
            stream.bytes.clear();
            stream.read = 0;
        }
        let writer = stream.writer.take();
        drop(stream);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut stream = lock(&self.writes);
        if stream.abandoned || stream.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = CAPACITY - (stream.bytes.len() - stream.read);
        if room == 0 {
            stream.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if stream.read > 0 && stream.bytes.len() + room > stream.bytes.capacity() {
            let read = std::mem::take(&mut stream.read);
            stream.bytes.drain(..read);
        }
        let mut count = 0;
        for slice in from {
            let part = slice.len().min(room);
            stream.bytes.extend_from_slice(&slice[..part]);
            room -= part;
            count += part;
        }
        let reader = stream.reader.take();
        drop(stream);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Pipe {
    fn finish(&self) {
        let mut stream = lock(&self.writes);
        stream.finished = true;
        let reader = stream.reader.take();
        drop(stream);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.finish();
        let mut stream = lock(&self.reads);
        stream.abandoned = true;
        stream.bytes = Vec::new();
        stream.read = 0;
        let writer = stream.writer.take();
        drop(stream);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipe")
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use futures_lite::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn written_bytes_are_read_before_the_end_of_the_stream() {
        block_on(async {
            let (mut client, mut server) = pipe();
            client.write_all(b"hello").await.unwrap();
            drop(client);
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"hello");
            assert!(server.write(b"anyone?").await.is_err());
        });
    }

    #[test]
    fn a_full_pipe_makes_the_writer_wait() {
        block_on(async {
            let (mut client, mut server) = pipe();
            let large = vec![7; 3 * CAPACITY];
            let mut writing = Box::pin(client.write_all(&large));
            let mut read = 0;
            while poll_once(&mut writing).await.is_none() {
                let mut buffer = [0; 10_000];
                read += server.read(&mut buffer).await.unwrap();
                assert!(lock(&server.reads).bytes.capacity() <= 2 * CAPACITY);
            }
            drop(writing);
            drop(client);
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert_eq!(read + rest.len(), large.len());
        });
    }
}
