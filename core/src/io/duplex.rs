//! An in-process wire for tests, which limits how many bytes it accepts and returns at a time.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

/// One end of the wire.
pub(crate) struct End {
    reader: piper::Reader,
    writer: piper::Writer,
    slice: usize,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("slice", &self.slice).finish_non_exhaustive()
    }
}

/// Creates a wire that buffers `capacity` bytes in each direction and moves at most `slice` bytes at a time.
pub(crate) fn wire(capacity: usize, slice: usize) -> (End, End) {
    let (here, there) = (piper::pipe(capacity), piper::pipe(capacity));
    let left = End { reader: here.0, writer: there.1, slice };
    let right = End { reader: there.0, writer: here.1, slice };
    (left, right)
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = buf.len().min(self.slice);
        Pin::new(&mut self.reader).poll_read(cx, &mut buf[..length])
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = buf.len().min(self.slice);
        // The pipe yields at random where it has room, and a TLS server that refuses a client writes its alert only
        // once.
        match self.writer.try_fill(&buf[..length]) {
            0 => {}
            count => return Poll::Ready(Ok(count)),
        }
        match Pin::new(&mut self.writer).poll_write(cx, &buf[..length]) {
            Poll::Ready(Ok(0)) if length > 0 => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            result => result,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
