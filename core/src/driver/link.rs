//! The link: moves bytes between the transport and the protocol, and keeps the time.
//!
//! Owns the transport, the receive buffer and what is being written. It takes the shared lock once a turn:
//! to apply what came, to take what is to be written, and to go to sleep.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq_proto::{HandshakeStage, Incoming, Receiver, Time, Transmit, code};
use tracing::{Span, debug_span};

use crate::auth::authenticator::Authenticator;
use crate::auth::refresh::Refresh;
use crate::io::Transport;
use crate::io::timer::Timer;
use crate::state::stats::Stats;
use crate::state::{Closing, Limits, Shared, State, register};
use crate::{Error, ErrorKind, Result};

/// One link to the broker: a transport, and what is read from it and written to it.
pub(crate) struct Link<T: Transport> {
    shared: Arc<Shared>,
    transport: T,
    authenticator: Authenticator,
    refresh: Refresh,
    receiver: Receiver,
    /// What came and is not applied yet.
    incoming: Vec<Incoming>,
    /// Whether the receiver may hold more of what came: nothing is read before that is decoded, so that an end of the
    /// stream comes last.
    undecoded: bool,
    transmit: Transmit,
    wakes: Vec<Waker>,
    /// To be dropped outside of the lock.
    spent: Vec<Waker>,
    stalled: Stall,
    flushed: bool,
    /// Whether consumers hold so much that nothing more is read.
    full: bool,
    /// How the peer broke the framing; what came before it counts.
    broken: Option<hopmq_proto::Error>,
    /// Bytes that came since the last turn.
    received: usize,
    moved: Moved,
    span: Span,
    alarm: Option<Time>,
    gathering: Option<Gathering>,
    pace: Pace,
    /// Whether nothing but heartbeats moved since the last alarm.
    quiet: bool,
}

/// Turns that a driver takes before it lets others run.
const TURNS: usize = 32;
/// Messages that are decoded before the lock is taken to apply them.
const BATCH: usize = 1024;
/// What a burst gathers before it is written, in bytes.
const GATHER: usize = 32 * 1024;
/// How long it gathers at the most.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// Turns in a row with something to write that make a burst.
const BURST_ROUNDS: usize = 8;
/// Publishes a write, at the least, of a burst that is known by its pace: those who hand one message to and fro wait
/// for each.
const BURST_PUBLISHES: u64 = 8;
/// Bytes within [`GATHER_TIME`] with which a burst goes on.
const BURST_BYTES: u64 = 64 * 1024;
/// Slices of one vectored write.
const SLICES: usize = 32;

impl<T: Transport> Link<T> {
    pub(crate) fn new(shared: Arc<Shared>, transport: T, authenticator: Authenticator, refresh: Refresh) -> Self {
        let receiver = Receiver::client(shared.lock().proto.receive_limits());
        Self {
            shared,
            transport,
            authenticator,
            refresh,
            receiver,
            incoming: Vec::new(),
            undecoded: false,
            transmit: Transmit::new(),
            wakes: Vec::new(),
            spent: Vec::new(),
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

    /// Moves what there is to move. Ready with the reason when the link is lost.
    pub(crate) fn run(&mut self, timer: &mut impl Timer, context: &mut Context<'_>) -> Poll<Result<()>> {
        let span = self.span.clone();
        let _entered = span.enter();
        self.refresh.poll(&self.shared, context);
        // Whether the transport may have something that it has not promised to wake us for.
        let mut readable = true;
        let (mut wrote, mut idle) = (false, false);
        for round in 0..TURNS {
            // What came is read before the turn that applies it: it is what the driver was mostly woken for.
            let mut came = self.undecoded;
            if !self.undecoded && !self.full && (readable || wrote) {
                let received = self.read(context)?;
                readable = received > 0;
                came = readable;
                self.received += received;
            }
            self.decode();
            if idle && !came {
                return self.sleep(timer, context);
            }
            let news = self.turn(round, context)?;
            wrote = match self.write(context) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(Err(self.last_word(error, context))),
            };
            idle = !news && !wrote;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Applies what came, keeps the time, and takes what is to be written. Returns whether there is something to do
    /// that was not before; if there isn't, the handles wake the driver from now on.
    fn turn(&mut self, round: usize, context: &mut Context<'_>) -> Result<bool> {
        let now = self.shared.clock.now();
        let shared = Arc::clone(&self.shared);
        let (limits, mut state) = (&shared.limits, shared.lock());
        state.count(&mut self.moved);
        if round == 0 {
            // Those who may go on have had their turn.
            state.reserved = 0;
        }
        if self.full || self.received > 0 {
            // What lies unread in the socket proves that the peer lives, as long as it isn't drained.
            state.proto.received(now);
        }
        self.received = 0;
        state.stats.received += self.incoming.len() as u64;
        let result = apply(&mut state, &mut self.incoming, &mut self.authenticator, now);
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
        let result = result.and_then(|()| state.tick(now)).and_then(|()| self.stalled.check(now, limits, &state));
        if result.is_err() {
            // The handles take the lock before the loss is dealt with.
            state.up = false;
        }
        self.receiver.set_limits(state.proto.receive_limits());
        let mut news = false;
        if self.transmit.is_empty() && !self.gathers(&mut state, round, now) {
            news = state.proto.poll_transmit(now, &mut self.transmit);
            state.taken = state.stats.published;
            state.make_room(limits.high_water);
        }
        let was_full = std::mem::replace(&mut self.full, state.is_full(limits.receive_limit));
        news |= was_full && !self.full;
        state.full = self.full;
        state.stalled = !self.transmit.is_empty();
        if !news {
            let own = self.stalled.deadline(limits, &state).into_iter().chain(self.refresh.deadline());
            // While the transport is full, time brings nothing: what was gathered waits for room.
            let gathering = self.gathering.as_ref().filter(|_| self.transmit.is_empty());
            let own = own.chain(gathering.map(|gathering| gathering.until));
            self.alarm = state.next_deadline().into_iter().chain(own).min();
            state.sleep(context.waker(), self.alarm);
        }
        std::mem::swap(&mut self.wakes, &mut state.wakes);
        std::mem::swap(&mut self.spent, &mut state.spent);
        drop(state);
        self.spent.clear();
        self.wakes.drain(..).for_each(Waker::wake);
        result.map(|()| news)
    }

    /// Whether what is queued is left to grow: while a burst lasts, small writes would only be in its way. Each poll
    /// writes what it finds; what comes meanwhile waits for the next, a buffer later or [`GATHER_TIME`].
    fn gathers(&mut self, state: &mut State, round: usize, now: Time) -> bool {
        let sent = state.stats.bytes_sent;
        let goes_on = match &self.gathering {
            Some(gathering) => now < gathering.until || sent - gathering.sent >= BURST_BYTES,
            None => state.assisted && (self.hurries(state, now) || round >= BURST_ROUNDS),
        };
        if !goes_on || state.closing.is_some() || !state.up {
            self.gathering = None;
            state.gather = 0;
            return false;
        }
        if self.gathering.as_ref().is_none_or(|gathering| now >= gathering.until) {
            self.gathering = Some(Gathering { until: now + GATHER_TIME, sent });
        }
        state.gather = GATHER;
        round > 0 && state.proto.queued() < GATHER
    }

    /// Whether so much was published lately, and so much of it in each write, that a burst is under way. It may sleep
    /// now and then, as one does that waits for confirms.
    fn hurries(&mut self, state: &State, now: Time) -> bool {
        if now < self.pace.since + GATHER_TIME {
            return false;
        }
        let Stats { bytes_sent: sent, writes, published, .. } = state.stats;
        let before = std::mem::replace(&mut self.pace, Pace { since: now, sent, writes, published });
        now < before.since + 2 * GATHER_TIME
            && sent - before.sent >= BURST_BYTES
            && published - before.published >= BURST_PUBLISHES * (writes - before.writes)
    }

    /// Waits for the next deadline, or whatever comes first.
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

    /// Gives memory back that a burst had needed: nothing but heartbeats moved since the last alarm.
    fn shrink(&mut self) {
        self.receiver.shrink();
        self.transmit.shrink();
        self.incoming = Vec::new();
        self.wakes = Vec::new();
        self.shared.lock().proto.shrink();
    }

    /// Writes until all is written or the transport is full. Returns whether anything moved.
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

    /// Reads once. Returns the bytes that came.
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

    /// Decodes what has been read, up to a batch.
    fn decode(&mut self) {
        if self.broken.is_none() {
            self.broken = self.receiver.poll_batch(&mut self.incoming, BATCH).err();
        }
        self.undecoded = self.incoming.len() == BATCH;
    }

    /// A write failed. A broker that closes the connection says why before it hangs up, and that may not be read yet.
    fn last_word(&mut self, error: Error, context: &mut Context<'_>) -> Error {
        let mut left = UNREAD;
        while left > 0 {
            if !self.undecoded {
                let Ok(count @ 1..) = self.read(context) else { break };
                left = left.saturating_sub(count);
            }
            self.decode();
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            if let Err(reason) = apply(&mut state, &mut self.incoming, &mut self.authenticator, now) {
                state.up = false;
                return reason;
            }
        }
        error
    }

    fn end_of_stream(&self) -> Error {
        let state = self.shared.lock();
        let host = &state.recovery.host;
        let text = match state.proto.handshake_stage() {
            Some(stage) => in_handshake(&format!("{host} closed the socket"), stage),
            None => format!("{host} closed the socket without sending connection.close"),
        };
        Error::new(ErrorKind::Io, text)
    }

    fn lost(&self, error: io::Error) -> Error {
        // A layer that knows better says so: TLS learns of a refused client certificate only after its handshake.
        if let Some(known) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return known.clone();
        }
        let state = self.shared.lock();
        let lost = format!("the connection to {} was lost", state.recovery.host);
        let message = match state.proto.handshake_stage() {
            Some(stage) => in_handshake(&lost, stage),
            None => lost,
        };
        Error::with_source(ErrorKind::Io, message, error)
    }

    /// Takes the last bytes that the protocol has for the broker.
    pub(crate) fn take_last_words(&mut self) {
        let now = self.shared.clock.now();
        self.shared.lock().proto.poll_transmit(now, &mut self.transmit);
    }

    /// Writes the last bytes and closes the transport. Ready when that is done.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The link is over whatever happens to its last words.
        let flushed = self.write(context).is_err() || self.transmit.is_empty();
        if flushed && Pin::new(&mut self.transport).poll_close(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A read or write of so few bytes is no more than a heartbeat or two.
const HEARTBEATS: usize = 16;
/// How long the last bytes of a connection may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);
/// What may lie unread in a socket that fails, in bytes: as much as Linux lets it grow to, and some.
const UNREAD: usize = 8 << 20;
/// How many times its limit a connection takes in while somebody waits for an answer.
const PATIENCE: usize = 8;

fn apply(state: &mut State, incoming: &mut Vec<Incoming>, authenticator: &mut Authenticator, now: Time) -> Result<()> {
    for incoming in incoming.drain(..) {
        if let Incoming::Content { channel, content } = incoming {
            if let Some(purpose) = state.proto.handle_content(channel, &content)? {
                state.apply_content(channel, purpose, content);
            }
            continue;
        }
        let Some(event) = state.proto.handle(now, incoming)? else { continue };
        if let Some(event) = authenticator.handle(state, event)? {
            state.apply(event, now)?;
        }
    }
    Ok(())
}

/// Since when the transport takes nothing.
#[derive(Clone, Copy, Debug)]
struct Stall(Option<Time>);

impl Stall {
    /// A broker that has said that it blocks publishing may leave bytes in the socket as long as it likes.
    fn deadline(self, limits: &Limits, state: &State) -> Option<Time> {
        let since = self.0.filter(|_| state.blocked.is_none())?;
        Some(since.max(state.unblocked) + limits.write_timeout)
    }

    fn check(self, now: Time, limits: &Limits, state: &State) -> Result<()> {
        match self.deadline(limits, state) {
            Some(deadline) if deadline <= now => Err(Error::new(
                ErrorKind::Timeout,
                format!("the broker took no bytes from its socket for {:?}", limits.write_timeout),
            )),
            _ => Ok(()),
        }
    }
}

/// A burst of output.
struct Gathering {
    /// Until when what is queued may wait.
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
}

impl State {
    fn count(&mut self, moved: &mut Moved) {
        let Moved { bytes_sent, writes, bytes_received, reads } = std::mem::take(moved);
        self.stats.bytes_sent += bytes_sent;
        self.stats.writes += writes;
        self.stats.bytes_received += bytes_received;
        self.stats.reads += reads;
    }

    /// Does what the time asks for.
    fn tick(&mut self, now: Time) -> Result<()> {
        self.expire(now);
        let alive = self.proto.handle_timeout(now);
        alive.map_err(|error| Error::new(ErrorKind::Heartbeat, error.message()))?;
        self.check_handshake(now)?;
        self.tick_replay(now)?;
        let Some(closing) = self.closing else { return Ok(()) };
        if !self.up && !self.ended {
            // It is about to come back, which nobody wants any more.
            return Err(crate::state::dispatch::closed_here(self.unconfirmed, true));
        }
        let late = now >= closing.deadline;
        if !closing.sent && (self.unconfirmed == 0 || late) {
            let deadline = closing.flush.max(now + LAST_WORDS);
            self.closing = Some(Closing { sent: true, unconfirmed: self.unconfirmed, deadline, ..closing });
            self.proto.close(code::REPLY_SUCCESS, "goodbye");
        } else if closing.sent && late {
            return Err(crate::state::dispatch::closed_here(closing.unconfirmed, closing.flushed));
        }
        Ok(())
    }

    /// All that was taken to be written is written.
    fn note_flushed(&mut self, now: Time) {
        if let Some(closing) = &mut self.closing
            && closing.sent
            && !closing.flushed
            && self.proto.queued() == 0
        {
            closing.flushed = true;
            closing.deadline = closing.deadline.min(now + LAST_WORDS);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let request = self.deadlines.first().map(|(deadline, _)| *deadline);
        let closing = self.closing.map(|closing| closing.deadline);
        let link = self.recovery.deadline();
        self.proto.poll_timeout().into_iter().chain(request).chain(closing).chain(link).min()
    }

    /// Whether consumers hold as much as they may. While somebody waits for an answer, which may lie behind more
    /// deliveries, a multiple of it is taken.
    pub(crate) fn is_full(&self, limit: usize) -> bool {
        if self.closing.is_some_and(|closing| closing.sent) {
            // Nothing is kept any more; what is waited for lies behind it.
            return false;
        }
        let waiting = !self.deadlines.is_empty() || self.unconfirmed > 0;
        self.buffered > if waiting { limit.saturating_mul(PATIENCE) } else { limit }
    }

    /// Notes whom to wake, and when it wakes by itself.
    pub(crate) fn sleep(&mut self, waker: &Waker, alarm: Option<Time>) {
        register(&mut self.driver, waker, &mut self.spent);
        self.alarm = alarm.unwrap_or(Time::from_epoch(Duration::MAX));
        self.nudge = false;
    }

    /// Lets the publishers go on that wait, in their order, if there is room again and the broker lets them.
    fn make_room(&mut self, high_water: usize) {
        let blocked = !self.up || !self.proto.may_publish(0) || self.kept >= self.kept_limit;
        if self.room.is_empty() || blocked || self.proto.queued() > high_water / 2 {
            return;
        }
        let mut room = std::mem::take(&mut self.room);
        room.retain(|_, waiting| {
            let channel = self.requests.get_mut(waiting.key).map(|request| request.channel);
            let stays = channel.is_some_and(|channel| {
                self.reserved + self.proto.queued() >= high_water || !self.proto.may_publish(channel)
            });
            if !stays {
                self.reserved += waiting.size;
                self.admit(waiting.key);
            }
            stays
        });
        self.room = room;
    }
}

/// Describes a failure in the handshake and its most likely cause.
fn in_handshake(what: &str, stage: HandshakeStage) -> String {
    let guess = match stage {
        HandshakeStage::Start => "a wrong port, one that expects TLS, or a broker that is starting or full?",
        HandshakeStage::Login => "wrong credentials?",
        HandshakeStage::OpenOk => "no such virtual host, or no permission for it?",
        _ => "is the broker stopping?",
    };
    format!("{what} during the handshake, before {stage}: {guess}")
}
