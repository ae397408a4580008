//! The link: moves bytes between the transport and the protocol, and keeps the time.
//!
//! Owns the transport, the receive buffer and the output that is being written. It takes the shared lock once a turn:
//! to apply the input, to take the output, and to go to sleep.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::method::connection::UpdateSecret;
use hopmq_proto::{Elapsed, HandshakeStage, Incoming, Receiver, Time, Transmit};
use tracing::{Span, debug_span, warn};

use super::wire_trace;
use crate::auth::authenticator::{Authenticator, LoginSize};
use crate::auth::refresh::Refresh;
use crate::error::{Error, ErrorKind, Result};
use crate::io::Transport;
use crate::io::timer::Timer;
use crate::recovery::Recovering;
use crate::state::stats::Stats;
use crate::state::{Limits, Shared, State, Wakers};

/// One link to the broker: a transport, its input and its output.
pub(crate) struct Link<T: Transport> {
    shared: Arc<Shared>,
    transport: T,
    /// The host, for errors.
    host: String,
    authenticator: Authenticator,
    refresh: Refresh,
    receiver: Receiver,
    /// Decoded input that is not applied yet.
    incoming: Vec<Incoming>,
    /// Whether the receiver may hold more input. Nothing is read before all input is decoded, so that the end of the
    /// stream comes last.
    undecoded: bool,
    transmit: Transmit,
    wakers: Wakers,
    stalled: Stall,
    flushed: bool,
    /// Whether the consumers' buffers are full, so that nothing is read.
    full: bool,
    /// The framing error of the peer. The input before the error is applied first.
    broken: Option<hopmq_proto::Error>,
    /// Bytes that were received since the last turn.
    received: usize,
    moved: Moved,
    span: Span,
    alarm: Option<Time>,
    gathering: Option<Gathering>,
    pace: Pace,
    /// Whether nothing but heartbeats moved since the last alarm.
    quiet: bool,
}

/// Turns of one poll, after which other tasks of the executor may run.
const TURNS: usize = 32;
/// Bytes that one poll reads, after which other tasks may handle them: blocks of memory are then used again while the
/// processor's cache has them.
const MOST_READ: usize = 1024 * 1024;
/// Methods and messages that are decoded before the lock is taken to apply them.
const BATCH: usize = 1024;
/// Output that gathers in a burst before it is written, in bytes.
const GATHER: usize = 32 * 1024;
/// How long output gathers at most.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// Turns in a row with output that make a burst.
const BURST_ROUNDS: usize = 8;
/// Publishes per write, at least, of a burst that is known by its pace. Programs that wait for an answer to each
/// message publish fewer.
const BURST_PUBLISHES: u64 = 8;
/// Bytes within [`GATHER_TIME`] with which a burst continues.
const BURST_BYTES: u64 = 64 * 1024;
/// Slices of one vectored write.
const SLICES: usize = 32;

impl<T: Transport> Link<T> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: T,
        host: String,
        authenticator: Authenticator,
        refresh: Refresh,
    ) -> Self {
        let receiver = Receiver::client(shared.lock().proto.receive_limits());
        Self {
            shared,
            transport,
            host,
            authenticator,
            refresh,
            receiver,
            incoming: Vec::new(),
            undecoded: false,
            transmit: Transmit::new(),
            wakers: Wakers::default(),
            stalled: Stall(None),
            flushed: true,
            full: false,
            broken: None,
            received: 0,
            moved: Moved::default(),
            span: debug_span!("amqp"),
            alarm: None,
            gathering: None,
            pace: Pace::default(),
            quiet: false,
        }
    }

    /// Reads and writes as long as there is something to read or write. Ready with the reason when the link is lost.
    pub(crate) fn run(
        &mut self,
        timer: &mut impl Timer,
        recovering: &mut Recovering,
        context: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let span = self.span.clone();
        let _entered = span.enter();
        self.refresh_credentials(context);
        // Whether the transport may have input for which it has not registered this task's waker.
        let mut readable = true;
        let mut wrote = false;
        let mut idle = false;
        let mut taken = 0;
        for round in 0..TURNS {
            if taken >= MOST_READ {
                break;
            }
            // Input is read before the turn that applies it: mostly, the driver was woken for input.
            let mut has_input = self.undecoded;
            if !self.undecoded && !self.full && (readable || wrote) {
                let received = self.read(context)?;
                readable = received > 0;
                has_input = readable;
                self.received += received;
                taken += received;
            }
            self.decode();
            if idle && !has_input {
                return self.sleep(timer, context);
            }
            let has_work = self.turn(round, recovering, context)?;
            wrote = match self.write(context) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(Err(self.after_failed_write(error, recovering, context))),
            };
            idle = !has_work && !wrote;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends the broker a new secret, if the old one is about to expire.
    fn refresh_credentials(&mut self, context: &mut Context<'_>) {
        if self.refresh.deadline().is_none() {
            return;
        }
        let now = self.shared.clock.now();
        let Some(credentials) = self.refresh.poll(now, context) else { return };
        let new_secret = credentials.password().as_bytes();
        let update = UpdateSecret { new_secret, reason: "the old secret is about to expire" };
        if let Err(error) = self.shared.lock().proto.request(0, &update, None) {
            warn!(%error, "could not send the new secret");
        }
    }

    /// Applies the input, keeps the time, and takes the output. Returns whether there is new output or room for input;
    /// if there is neither, the handles wake the driver from now on.
    fn turn(&mut self, round: usize, recovering: &mut Recovering, context: &mut Context<'_>) -> Result<bool> {
        let now = self.shared.clock.now();
        let shared = Arc::clone(&self.shared);
        let limits = &shared.limits;
        let mut state = shared.lock();
        self.moved.add_to(state.stats_mut());
        if round == 0 {
            state.begin_poll();
        }
        if self.full || self.received > 0 {
            // Unread input proves that the peer is alive, until the socket is drained.
            state.proto.received(now);
        }
        self.received = 0;
        state.stats_mut().received += self.incoming.len() as u64;
        let result = self.apply(&mut state, recovering, now);
        let result = result.and_then(|()| match self.broken.take() {
            Some(error) => {
                state.proto.receive_failed(&error);
                Err(error.into())
            }
            None => Ok(()),
        });
        if self.transmit.is_empty() {
            state.note_flushed(now);
        }
        let result = result
            .and_then(|()| tick(&mut state, recovering, now))
            .and_then(|()| self.stalled.check(now, limits, &state));
        if result.is_err() {
            // Handles may take the lock before the driver handles the loss.
            state.link_failed();
        }
        self.receiver.set_limits(state.proto.receive_limits());
        let mut has_work = false;
        let mut traces_output = false;
        if self.transmit.is_empty() && !self.gathers(&mut state, round, now) {
            has_work = state.take_output(now, &mut self.transmit);
            traces_output = has_work && wire_trace::is_enabled();
        }
        let was_full = std::mem::replace(&mut self.full, state.is_full(limits.receive_limit));
        has_work |= was_full && !self.full;
        state.set_flow(!self.transmit.is_empty(), self.full);
        if !has_work {
            let own = self.stalled.deadline(limits, &state).into_iter().chain(self.refresh.deadline());
            // While the transport is full, gathered output waits for the transport, not for the time.
            let gathering = self.gathering.as_ref().filter(|_| self.transmit.is_empty());
            let own = own.chain(gathering.map(|gathering| gathering.until)).chain(recovering.deadline());
            self.alarm = state.next_deadline().into_iter().chain(own).min();
            state.sleep(context.waker(), self.alarm);
        }
        state.swap_wakers(&mut self.wakers);
        drop(state);
        self.wakers.run();
        if traces_output {
            wire_trace::trace_output(&self.transmit);
        }
        result.map(|()| has_work)
    }

    fn apply(&mut self, state: &mut State, recovering: &mut Recovering, now: Time) -> Result<()> {
        for incoming in self.incoming.drain(..) {
            if let Incoming::Content { channel, content } = incoming {
                if let Some(purpose) = state.proto.handle_content(channel, &content)? {
                    state.apply_content(channel, purpose, content);
                }
                continue;
            }
            let Some(event) = state.proto.handle(now, incoming)? else { continue };
            let Some(event) = self.authenticator.handle(&mut state.proto, event)? else { continue };
            let unhandled = recovering.handle(state, event, now).map_err(|error| self.authenticator.explain(error))?;
            if let Some(event) = unhandled {
                state.apply(event, now)?;
            }
        }
        if let Some(properties) = self.authenticator.server_properties.take() {
            state.server_properties = properties;
        }
        Ok(())
    }

    /// Whether output gathers: in a burst, small writes would only cost time. Each poll writes the output that it
    /// finds; output that is queued meanwhile waits for the next poll, which comes with [`GATHER`] bytes of output or
    /// after [`GATHER_TIME`].
    fn gathers(&mut self, state: &mut State, round: usize, now: Time) -> bool {
        let sent = state.stats().bytes_sent;
        let continues = match &self.gathering {
            Some(gathering) => now < gathering.until || sent - gathering.sent >= BURST_BYTES,
            None => state.is_driver_inline() && (self.is_burst(state, now) || round >= BURST_ROUNDS),
        };
        if !continues || state.is_closing() || !state.is_up() {
            self.gathering = None;
            state.set_gather(0);
            return false;
        }
        if self.gathering.as_ref().is_none_or(|gathering| now >= gathering.until) {
            self.gathering = Some(Gathering { until: now + GATHER_TIME, sent });
        }
        state.set_gather(GATHER);
        round > 0 && state.proto.queued() < GATHER
    }

    /// Whether so much was published lately, and so much of it in each write, that a burst is under way. A burst may
    /// sleep now and then, as one does that waits for confirms.
    fn is_burst(&mut self, state: &State, now: Time) -> bool {
        if now < self.pace.since + GATHER_TIME {
            return false;
        }
        let Stats { bytes_sent: sent, writes, published, .. } = *state.stats();
        let before = std::mem::replace(&mut self.pace, Pace { since: now, sent, writes, published });
        now < before.since + 2 * GATHER_TIME
            && sent - before.sent >= BURST_BYTES
            && published - before.published >= BURST_PUBLISHES * (writes - before.writes)
    }

    /// Waits for the next deadline, or until the task is woken.
    fn sleep(&mut self, timer: &mut impl Timer, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(alarm) = self.alarm
            && timer.poll_until(alarm, context).is_ready()
        {
            if std::mem::replace(&mut self.quiet, true) {
                self.shrink();
            }
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Frees memory that a burst needed: nothing but heartbeats moved since the last alarm.
    fn shrink(&mut self) {
        self.receiver.shrink();
        self.transmit.shrink();
        self.incoming = Vec::new();
        self.wakers = Wakers::default();
        self.shared.lock().proto.shrink();
    }

    /// Writes until all output is written or the transport is full. Returns whether anything was written.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool> {
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
                Poll::Ready(Ok(0)) => return Err(self.lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.transmit.advance(count);
                    self.stalled = Stall(None);
                    self.moved.sent(count);
                    self.quiet &= count <= HEARTBEATS;
                    self.flushed = false;
                    moved = true;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
                Poll::Pending => {
                    self.stalled.0.get_or_insert_with(|| self.shared.clock.now());
                    break;
                }
            }
        }
        if !self.flushed {
            match Pin::new(&mut self.transport).poll_flush(context) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// Reads once. Returns how many bytes were read.
    fn read(&mut self, context: &mut Context<'_>) -> Result<usize> {
        loop {
            match Pin::new(&mut self.transport).poll_read(context, self.receiver.space()) {
                Poll::Ready(Ok(0)) => return Err(self.end_of_stream()),
                Poll::Ready(Ok(count)) => {
                    self.receiver.filled(count);
                    self.moved.received(count);
                    self.quiet &= count <= HEARTBEATS;
                    return Ok(count);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
                Poll::Pending => return Ok(0),
            }
        }
    }

    /// Decodes the input, up to a batch.
    fn decode(&mut self) {
        if self.broken.is_none() {
            self.broken = self.receiver.poll_batch(&mut self.incoming, BATCH).err();
        }
        self.undecoded = self.incoming.len() == BATCH;
        if !self.incoming.is_empty() && wire_trace::is_enabled() {
            wire_trace::trace_input(&self.incoming);
        }
    }

    /// Returns the reason of a failed write. A broker that closes the connection sends `connection.close` before it
    /// closes the socket, and that may not be read yet.
    fn after_failed_write(&mut self, error: Error, recovering: &mut Recovering, context: &mut Context<'_>) -> Error {
        let mut left = UNREAD;
        while left > 0 {
            if !self.undecoded {
                let Ok(count @ 1..) = self.read(context) else { break };
                left = left.saturating_sub(count);
            }
            self.decode();
            let now = self.shared.clock.now();
            let shared = Arc::clone(&self.shared);
            let mut state = shared.lock();
            if let Err(reason) = self.apply(&mut state, recovering, now) {
                state.link_failed();
                return reason;
            }
        }
        error
    }

    fn end_of_stream(&self) -> Error {
        let host = &self.host;
        let text = match self.in_handshake(&format!("{host} closed the socket")) {
            Some(text) => text,
            None => format!("{host} closed the socket without sending connection.close"),
        };
        Error::new(ErrorKind::Io, text)
    }

    fn lost(&self, error: io::Error) -> Error {
        // A layer may know the reason: TLS learns of a refused client certificate only after its handshake.
        if let Some(known) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return known.clone();
        }
        let lost = format!("the connection to {} was lost", self.host);
        let message = self.in_handshake(&lost).unwrap_or(lost);
        Error::with_source(ErrorKind::Io, message, error)
    }

    /// Describes a failure in the handshake and its most likely cause; `None` after the handshake.
    fn in_handshake(&self, what: &str) -> Option<String> {
        let (stage, frame_max) = {
            let state = self.shared.lock();
            (state.proto.handshake_stage()?, state.proto.tuning().frame_max)
        };
        let too_long = self.authenticator.login.and_then(LoginSize::guess);
        let guess = match stage {
            HandshakeStage::Start => "is the port wrong, does it expect TLS, or is the broker starting or full?",
            HandshakeStage::Login => too_long.as_deref().unwrap_or("wrong credentials?"),
            HandshakeStage::OpenOk if frame_max < LEAST_FRAME_MAX => {
                return Some(format!(
                    "{what} during the handshake, before {stage}: is frame_max {frame_max} too small? RabbitMQ takes \
                     {LEAST_FRAME_MAX} or more since release 4.1"
                ));
            }
            HandshakeStage::OpenOk => "no such virtual host, or no permission for it?",
            _ => "is the broker stopping?",
        };
        Some(format!("{what} during the handshake, before {stage}: {guess}"))
    }

    /// Takes the last output of the protocol connection.
    pub(crate) fn take_last_output(&mut self) {
        let now = self.shared.clock.now();
        // The trace can't begin in the middle of a frame.
        let is_written = self.transmit.is_empty();
        self.shared.lock().proto.poll_transmit(now, &mut self.transmit);
        if is_written && wire_trace::is_enabled() {
            wire_trace::trace_output(&self.transmit);
        }
    }

    /// Writes the last bytes and closes the transport. Ready when that is done.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The link is over even if its last output can not be written.
        let flushed = self.write(context).is_err() || self.transmit.is_empty();
        if flushed && Pin::new(&mut self.transport).poll_close(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A read or write of so few bytes carries no more than a heartbeat or two.
const HEARTBEATS: usize = 16;
/// Unread bytes that the socket of a failed link may hold: a little more than Linux lets a receive buffer grow to.
const UNREAD: usize = 8 << 20;

/// Does what is due at `now`. An error ends the link.
fn tick(state: &mut State, recovering: &mut Recovering, now: Time) -> Result<()> {
    state.expire(now);
    let alive = state.proto.handle_timeout(now);
    alive.map_err(|error| Error::new(ErrorKind::Heartbeat, error.message()))?;
    recovering.tick(state, now)?;
    state.tick_closing(now)
}

/// When the transport stopped accepting bytes.
#[derive(Clone, Copy, Debug)]
struct Stall(Option<Time>);

impl Stall {
    /// Returns when the transport counts as dead. There is no deadline while the broker blocks publishing, because the
    /// broker then leaves bytes in the socket.
    fn deadline(self, limits: &Limits, state: &State) -> Option<Time> {
        Some(self.0?.max(state.unblocked()?) + limits.write_timeout)
    }

    fn check(self, now: Time, limits: &Limits, state: &State) -> Result<()> {
        match self.deadline(limits, state) {
            Some(deadline) if deadline <= now => Err(Error::new(
                ErrorKind::Timeout,
                format!("the broker read no bytes from its socket for {}", Elapsed(limits.write_timeout)),
            )),
            _ => Ok(()),
        }
    }
}

/// A burst of output.
struct Gathering {
    /// The time until which output may wait.
    until: Time,
    /// Bytes that had been sent when the present interval began.
    sent: u64,
}

/// What had been written when the present interval of [`GATHER_TIME`] began.
#[derive(Default)]
struct Pace {
    since: Time,
    /// In bytes.
    sent: u64,
    writes: u64,
    published: u64,
}

/// What moved since the counters were last updated.
#[derive(Debug, Default)]
struct Moved {
    bytes_sent: u64,
    writes: u64,
    bytes_received: u64,
    reads: u64,
}

impl Moved {
    fn sent(&mut self, count: usize) {
        self.bytes_sent += count as u64;
        self.writes += 1;
    }

    fn received(&mut self, count: usize) {
        self.bytes_received += count as u64;
        self.reads += 1;
    }

    /// Adds the counts to `stats`, and starts again at zero.
    fn add_to(&mut self, stats: &mut Stats) {
        let Self { bytes_sent, writes, bytes_received, reads } = std::mem::take(self);
        stats.bytes_sent += bytes_sent;
        stats.writes += writes;
        stats.bytes_received += bytes_received;
        stats.reads += reads;
    }
}

/// The smallest frame limit that RabbitMQ takes since release 4.1, in bytes.
const LEAST_FRAME_MAX: u32 = 8192;
