//! The end of a connection: its last bytes are written, and what the client still sends is read and dropped.
//!
//! A socket that is closed before the client has closed its own side answers the client's next bytes with a reset. A
//! reset may overtake the `connection.close` with the reason, or `connection.close-ok`: the client then sees a lost
//! connection. So only the write side is shut down (TLS: after `close_notify`), and the socket stays until the client
//! closes it, within bounds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::{Time, Transmit};

use super::connection::{Serving, TURNS};
use super::shared::State;
use crate::engine::{SessionEnd, SessionKey};

/// How long the client has to close its side. RabbitMQ gives it the same time.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes are dropped: a client that writes the largest message, 128 MiB, reads the reason only after it.
/// RabbitMQ has no such limit.
const DROPPED_MAX: usize = 256 * 1024 * 1024;
/// How long a client may take nothing of the last bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take nothing of the last bytes, or send nothing, while the broker shuts down: an idle client,
/// which may never answer, must not delay the shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(300);
/// Bytes of one read.
const CHUNK: usize = 16 * 1024;

/// The progress of a connection's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    until: Time,
    /// When bytes were moved last.
    moved: Time,
    dropped: usize,
    /// Whether the write side is shut down.
    is_shut: bool,
    /// Whether the client has closed its side.
    has_left: bool,
}

impl Ending {
    pub(super) fn begin(now: Time) -> Self {
        Self { until: now + CLIENT_TIMEOUT, moved: now, dropped: 0, is_shut: false, has_left: false }
    }

    fn deadline(&self, is_stopping: bool) -> Time {
        let timeout = match (is_stopping, self.is_shut) {
            (true, _) => SHUTDOWN_TIMEOUT,
            (false, false) => WRITE_TIMEOUT,
            (false, true) => return self.until,
        };
        self.until.min(self.moved + timeout)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Serving<T> {
    /// Writes the last bytes, shuts down the write side, and drops what is read. Ready when the transport can close.
    pub(super) fn end(&mut self, ending: &mut Ending, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let mut has_moved = false;
            if !ending.is_shut {
                match self.write_rest(ending, context) {
                    Ok(wrote) => has_moved |= wrote,
                    // The client is gone.
                    Err(_) => return Poll::Ready(()),
                }
            }
            if !ending.has_left {
                match self.drop_input(context) {
                    Poll::Ready(Ok(count)) => {
                        has_moved = true;
                        ending.has_left = count == 0;
                        ending.dropped += count;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if ending.is_shut && ending.has_left || ending.dropped > DROPPED_MAX {
                return Poll::Ready(());
            }
            if !has_moved {
                let is_stopping = self.shared.lock().note_ending(self.id, context.waker());
                return self.alarm.poll_until(ending.deadline(is_stopping), context);
            }
            ending.moved = self.shared.clock.now();
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes the last bytes. Once all are written, removes the connection from the broker, and shuts down the write
    /// side. Returns whether anything was written.
    fn write_rest(&mut self, ending: &mut Ending, context: &mut Context<'_>) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            wrote |= self.write(context)?;
            if !self.transmit.is_empty() || !self.flushed {
                return Ok(wrote);
            }
            let now = self.shared.clock.now();
            let rest = self.shared.lock().take_rest(now, self.id, &mut self.transmit, context.waker());
            match rest {
                Rest::Taken => {}
                Rest::Held => return Ok(wrote),
                Rest::Unfinished => {
                    ending.moved = now;
                    return Ok(wrote);
                }
                Rest::Cut => return Err(io::ErrorKind::ConnectionAborted.into()),
                Rest::None => break,
            }
        }
        self.leave();
        if let Poll::Ready(shut) = Pin::new(&mut self.transport).poll_close(context) {
            shut?;
            ending.is_shut = true;
        }
        Ok(wrote)
    }

    /// Reads once into nothing. Zero is the end of the stream.
    fn drop_input(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match Pin::new(&mut self.transport).poll_read(context, &mut [0; CHUNK]) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// What [`State::take_rest`] found.
enum Rest {
    Taken,
    /// There is output that waits for the store.
    Held,
    /// The connection has unfinished work: no fault of the client's, which the time limits are for.
    Unfinished,
    None,
    /// The transport must be closed at once.
    Cut,
}

impl State {
    /// Moves the output of a connection that has ended into `transmit`, which is empty.
    fn take_rest(&mut self, now: Time, id: SessionKey, transmit: &mut Transmit, waker: &Waker) -> Rest {
        if self.engine.is_gone(id) {
            return Rest::None;
        }
        if self.engine.session_end(id) == Some(SessionEnd::Cut) {
            return Rest::Cut;
        }
        if self.engine.poll_transmit(now, id, transmit) {
            return Rest::Taken;
        }
        if self.engine.is_held(id) {
            self.sleep(id, waker);
            return if self.engine.is_working(id) { Rest::Unfinished } else { Rest::Held };
        }
        Rest::None
    }
}
