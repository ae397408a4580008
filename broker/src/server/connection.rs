//! One connection: reads and decodes, applies a batch under the lock, writes.
//!
//! Owns the transport, the alarm, the receive buffer and the output. The broker's lock is held to apply input and to
//! take output, never during I/O, and no waker is called under it.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::{Incoming, Receiver, Time, Transmit};

use super::ending::Ending;
use super::logins::{Admission, Attempt, Outcome, Source};
use super::shared::{Shared, State};
use super::wire_log::WireLog;
use crate::clock::Alarm;
use crate::engine::{Claim, Pace, SessionEnd, SessionKey};

/// Turns of a connection before it yields to others.
pub(super) const TURNS: usize = 16;
/// Inputs that are decoded before the lock is taken to apply them.
const BATCH: usize = 512;
/// Slices of one vectored write.
const SLICES: usize = 32;
/// How long a connection moves no bytes before the memory that a burst needed is freed.
const IDLE: Duration = Duration::from_secs(1);
/// Buffers up to this size are kept.
const GROWN: usize = 16 * 1024;
/// With more bytes of output than this, nothing is read: a client that sends requests must read the answers.
const READ_MARK: usize = 2 * 1024 * 1024;

/// A connection: a future that completes when the connection has ended.
pub(crate) struct Serving<T> {
    pub(super) shared: Arc<Shared>,
    pub(super) id: SessionKey,
    pub(super) transport: T,
    pub(super) alarm: Alarm,
    receiver: Receiver,
    /// The trace of methods, if it is enabled.
    wire_log: Option<Box<WireLog>>,
    /// Decoded input that is not applied yet.
    incoming: VecDeque<Incoming>,
    /// Whether the receiver may hold more input. Nothing is read before all input is decoded and applied, so that the
    /// end of the stream comes last.
    undecoded: bool,
    pub(super) transmit: Transmit,
    pub(super) wakes: Vec<Waker>,
    pub(super) flushed: bool,
    /// A framing error of the client. The input before it is still applied.
    broken: Option<hopmq_proto::Error>,
    /// Whether something was read since the last turn.
    received: bool,
    pace: Pace,
    /// Whether the last turn was spent: others come before the next.
    spent: bool,
    /// Whether input must wait for the store, or for the client to read its output.
    held: bool,
    /// Whether reading is paused.
    full: bool,
    deadline: Option<Time>,
    /// When the memory that a burst needed is freed, unless the connection moves bytes before.
    shrinks: Option<Time>,
    /// A password that must be verified.
    claim: Option<Claim>,
    /// The login whose password is being verified.
    attempt: Option<Attempt>,
    source: Option<Source>,
    /// Until the client has logged in.
    admission: Option<Admission>,
    phase: Phase,
}

/// The client of a connection.
pub(crate) struct Peer {
    /// Whether the client is on this machine.
    pub(crate) local: bool,
    /// Its address for the logs.
    pub(crate) name: Arc<str>,
    /// `None` for a client in this process.
    pub(crate) admission: Option<Admission>,
}

#[derive(Debug)]
enum Phase {
    Running,
    /// The connection has ended, but its transport is still needed.
    Ending(Ending),
    /// The transport must be closed at once.
    Cut,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Serving<T> {
    /// Adds a connection to the broker.
    pub(crate) fn new(shared: Arc<Shared>, transport: T, peer: Peer) -> Self {
        let mut state = shared.lock();
        let id = state.engine.connect(shared.clock.now(), peer.local, peer.name);
        let limits = state.engine.receive_limits(id);
        drop(state);
        let receiver = Receiver::server(limits.unwrap_or(hopmq_proto::ReceiveLimits {
            frame_max: hopmq_proto::MIN_FRAME_MAX,
            channel_max: 0,
            message_max: 0,
        }));
        Self {
            alarm: shared.clock.alarm(),
            shared,
            id,
            transport,
            receiver,
            wire_log: WireLog::if_enabled(id.number()),
            incoming: VecDeque::new(),
            undecoded: false,
            transmit: Transmit::new(),
            wakes: Vec::new(),
            flushed: true,
            broken: None,
            received: false,
            pace: Pace::new(),
            spent: false,
            held: false,
            full: false,
            deadline: None,
            shrinks: None,
            claim: None,
            attempt: None,
            source: peer.admission.as_ref().map(Admission::source),
            admission: peer.admission,
            phase: Phase::Running,
        }
    }

    /// Returns its id in [`crate::inspect`].
    #[cfg(feature = "testing")]
    pub(crate) fn id(&self) -> u64 {
        self.id.number()
    }

    /// Reads and writes until nothing moves. Ready when the connection has ended.
    fn run(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut idle = false;
        let mut readable = true;
        for _ in 0..TURNS {
            let has_output = self.turn(idle, context);
            if !idle {
                self.shrinks = None;
            }
            self.check_claim(context);
            if !matches!(self.phase, Phase::Running) {
                return Poll::Ready(Ok(()));
            }
            if idle && !has_output {
                return self.sleep(context);
            }
            let wrote = self.write(context)?;
            let mut count = 0;
            if !self.full && !self.undecoded && self.incoming.is_empty() && (readable || wrote) {
                count = match self.read(context)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(count) => count,
                    Poll::Pending => 0,
                };
                readable = count > 0;
            }
            self.received |= count > 0;
            self.decode();
            // A connection that wants to read sleeps only once its transport has nothing, and will wake it.
            let awaits_input = self.full || !readable;
            let nothing_to_do = self.held || self.incoming.is_empty() && self.broken.is_none() && awaits_input;
            idle = !wrote && count == 0 && nothing_to_do;
            if self.spent {
                self.shared.give_way();
                break;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Applies input, handles deadlines, and takes output. If `idle`, leaves a waker for the next output. Returns
    /// whether there is some.
    fn turn(&mut self, idle: bool, context: &mut Context<'_>) -> bool {
        let mut state = self.shared.lock();
        let now = self.shared.clock.now();
        let spenders = state.spenders;
        let engine = &mut state.engine;
        self.pace.begin(now, engine, spenders);
        if std::mem::take(&mut self.received) {
            engine.received(now, self.id);
        }
        while !engine.is_held(self.id)
            && self.attempt.is_none()
            && !engine.has_claim(self.id)
            && engine.queued(self.id) <= READ_MARK
            && !engine.is_spent()
            && let Some(incoming) = self.incoming.pop_front()
        {
            engine.handle(now, self.id, incoming);
        }
        // Until the password is verified, the next bytes wait: they must not overtake its result.
        let is_checking = self.attempt.is_some() || engine.has_claim(self.id);
        if self.incoming.is_empty()
            && !is_checking
            && let Some(error) = self.broken.take()
        {
            engine.receive_failed(self.id, &error);
        }
        state.persist();
        let State { engine, spenders, .. } = &mut *state;
        self.spent = self.pace.end(now, engine, spenders);
        engine.finish(self.id);
        self.claim = engine.take_claim(self.id);
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            engine.handle_session_timeout(now, self.id);
        }
        if let Some(limits) = engine.receive_limits(self.id) {
            self.receiver.set_limits(limits);
        }
        let mut has_output = false;
        if self.transmit.is_empty() {
            has_output = engine.poll_transmit(now, self.id, &mut self.transmit);
        }
        let buffers = self.receiver.held() + self.transmit.len() + self.incoming.len() * size_of::<Incoming>();
        engine.note_buffers(self.id, buffers, self.receiver.incomplete());
        self.held = is_checking || engine.is_held(self.id) || engine.queued(self.id) > READ_MARK;
        let blocked = engine.is_held(self.id) || engine.is_blocked(self.id);
        if blocked {
            // Its input is unread, so that missing heartbeats mean nothing.
            engine.received(now, self.id);
        }
        let was_full = std::mem::replace(&mut self.full, is_checking || blocked || engine.queued(self.id) > READ_MARK);
        has_output |= was_full && !self.full;
        match engine.session_end(self.id) {
            None => {}
            Some(SessionEnd::Closed) => {
                self.receiver = Receiver::server(self.receiver.limits());
                self.incoming = VecDeque::new();
                self.phase = Phase::Ending(Ending::begin(now));
            }
            Some(SessionEnd::Cut) => self.phase = Phase::Cut,
        }
        self.deadline = engine.session_deadline(self.id);
        has_output |= idle && self.deadline.is_some_and(|deadline| deadline <= now);
        if idle && !has_output {
            state.sleep(self.id, context.waker());
        }
        let admission = self.admission.take_if(|_| state.engine.has_opened(self.id));
        state.collect(&mut self.wakes);
        state.engine.end_turn(|| self.shared.clock.now() - now);
        drop(state);
        drop(admission);
        self.wakes.drain(..).for_each(Waker::wake);
        has_output
    }

    /// Has a password verified, which is slow on purpose, on another thread.
    fn check_claim(&mut self, context: &mut Context<'_>) {
        if let Some(claim) = self.claim.take() {
            self.attempt = Some(Attempt::new(&self.shared, self.source, claim));
        }
        if let Some(attempt) = &mut self.attempt
            && let Poll::Ready(outcome) = attempt.poll(context)
            && let Some(attempt) = self.attempt.take()
        {
            self.change(|state, now, id| match outcome {
                Outcome::Verified(holds) => state.engine.judge(now, id, &attempt.claim, holds),
                Outcome::Late => state.engine.turn_away(now, id),
            });
        }
    }

    fn sleep(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shrinks.is_none() && self.is_grown() {
            self.shrinks = Some(self.shared.clock.now() + IDLE);
        }
        let next = self.deadline.into_iter().chain(self.shrinks).min();
        if let Some(next) = next
            && self.alarm.poll_until(next, context).is_ready()
        {
            if self.shrinks.take_if(|at| *at <= next).is_some() {
                self.shrink();
            }
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether [`Serving::shrink`] would free something worth its time.
    fn is_grown(&self) -> bool {
        self.receiver.held() - self.receiver.incomplete() > GROWN
            || self.transmit.capacity() > GROWN
            || self.incoming.capacity() > BATCH / 4
    }

    /// Frees memory that a burst needed, once the connection is idle.
    fn shrink(&mut self) {
        self.receiver.shrink();
        self.transmit.shrink();
        self.incoming.shrink_to_fit();
        self.wakes = Vec::new();
        self.shared.lock().engine.shrink(self.id);
    }

    /// Writes until the output is empty or the transport is full. Returns whether anything was written.
    pub(super) fn write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.transmit.is_empty() {
            let transport = Pin::new(&mut self.transport);
            let written = if self.transmit.is_vectored() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                transport.poll_write_vectored(context, self.transmit.slices(&mut slices))
            } else {
                transport.poll_write(context, self.transmit.chunk())
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    if let Some(log) = &mut self.wire_log {
                        let mut slices = [IoSlice::new(&[]); SLICES];
                        log.sent(self.transmit.slices(&mut slices), count);
                    }
                    self.transmit.advance(count);
                    self.flushed = false;
                    moved = true;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if !self.flushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.transport).poll_flush(context)
        {
            flushed?;
            self.flushed = true;
        }
        Ok(moved)
    }

    /// Reads once. Zero is the end of the stream.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        loop {
            match Pin::new(&mut self.transport).poll_read(context, self.receiver.space()) {
                Poll::Ready(Ok(count)) => {
                    self.receiver.filled(count);
                    return Ok(Poll::Ready(count));
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Decodes what was read, up to a batch.
    fn decode(&mut self) {
        while self.incoming.len() < BATCH && self.broken.is_none() {
            match self.receiver.poll() {
                Ok(Some(incoming)) => {
                    if let Some(log) = &mut self.wire_log {
                        log.received(&incoming);
                    }
                    self.incoming.push_back(incoming);
                }
                Ok(None) => break,
                Err(error) => self.broken = Some(error),
            }
        }
        self.undecoded = self.incoming.len() == BATCH;
    }
}

impl<T> Serving<T> {
    /// Removes the connection from the broker, which releases what it held.
    pub(super) fn leave(&mut self) {
        self.change(State::leave);
    }

    fn change(&mut self, change: impl FnOnce(&mut State, Time, SessionKey)) {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        self.pace.leave(&mut state.spenders);
        change(&mut state, now, self.id);
        state.collect(&mut self.wakes);
        drop(state);
        self.wakes.drain(..).for_each(Waker::wake);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Serving<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Phase::Running = this.phase
            && let Err(error) = ready!(this.run(context))
        {
            this.shared.lock().engine.transport_failed(this.id, &error);
            this.phase = Phase::Cut;
        }
        if let Phase::Ending(mut ending) = this.phase {
            let ended = this.end(&mut ending, context);
            this.phase = Phase::Ending(ending);
            ready!(ended);
        }
        this.admission = None;
        Poll::Ready(())
    }
}

impl<T> Drop for Serving<T> {
    fn drop(&mut self) {
        self.change(|state, now, id| {
            state.leave(now, id);
            state.forget(id);
        });
    }
}
