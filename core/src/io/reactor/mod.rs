//! A reactor for threads that do little more than drive connections.
//!
//! Owns the system's event queue, the readiness of each socket, and the alarms. Sockets are registered once,
//! edge-triggered, and the next alarm is the timeout of the wait, so a reply costs three system calls (write, wait,
//! read). The reactor knows no protocol and spawns nothing: it runs one future on the calling thread.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::Time;
use mio::event::{Event, Source};
use mio::net::TcpStream;
use mio::{Events, Interest, Registry, Token};

use crate::driver;
use crate::driver::lead::seat::Seat;
use crate::io::timer::{Clock, Timer};
use crate::process::Process;

/// Runs a future on the calling thread, together with connections that were made on the reactor
/// ([`Builder::connect_on`](crate::Builder::connect_on)).
///
/// This is the fastest way to drive a connection on a thread that has nothing else to wait for.
///
/// ```no_run
/// # fn example() -> hopmq::Result<()> {
/// use futures_lite::future;
/// use hopmq::{Connection, Reactor};
///
/// let mut reactor = Reactor::new()?;
/// let handle = reactor.handle();
/// reactor.block_on(async {
///     let (connection, driver) = Connection::builder().uri("amqp://localhost").connect_on(&handle).await?;
///     let work = async {
///         connection.channel().await?;
///         connection.close().await
///     };
///     future::zip(driver, work).await.1
/// })
/// # }
/// ```
pub struct Reactor {
    handle: ReactorHandle,
}

/// A handle with which connections are made on a [`Reactor`]: cheap to clone, and usable from any thread.
///
/// Those connections make progress only while the reactor runs a future.
#[derive(Clone)]
pub struct ReactorHandle {
    core: Arc<Core>,
}

struct Core {
    /// The process whose event queue it is.
    process: Process,
    unpark: Arc<Unpark>,
    /// The waker that `unpark` is.
    waker: Waker,
    leader: Arc<Leader>,
    /// The waker that `leader` is.
    leader_waker: Waker,
    registry: Registry,
    table: Mutex<Table>,
    /// Used by the thread that holds the seat.
    queue: Mutex<Queue>,
}

/// The system's event queue.
struct Queue {
    poll: mio::Poll,
    events: Events,
}

#[derive(Default)]
struct Table {
    /// Indexed by token.
    sources: Vec<Option<Arc<Readiness>>>,
    free: Vec<usize>,
    alarms: BTreeMap<(Instant, u64), Waker>,
    serial: u64,
}

/// The token of the reactor's own waker; the tokens of sockets are lower.
const WAKER: Token = Token(usize::MAX);
const EVENTS: usize = 256;

impl Reactor {
    /// Creates a reactor without sockets.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system has no more file descriptors.
    pub fn new() -> crate::Result<Self> {
        let failed = |error| {
            crate::Error::with_source(crate::ErrorKind::Io, "could not create an event queue (epoll/kqueue)", error)
        };
        let poll = mio::Poll::new().map_err(failed)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(failed)?;
        let registry = poll.registry().try_clone().map_err(failed)?;
        let (notified, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        let unpark = Arc::new(Unpark { notified, asleep, waker, seat: Seat::default() });
        let waker = Waker::from(Arc::clone(&unpark));
        let leader = Arc::new(Leader { woken: AtomicBool::new(false), unpark: Arc::clone(&unpark) });
        let core = Core {
            process: Process::current(),
            unpark,
            waker,
            leader_waker: Waker::from(Arc::clone(&leader)),
            leader,
            registry,
            table: Mutex::default(),
            queue: Mutex::new(Queue { poll, events: Events::with_capacity(EVENTS) }),
        };
        Ok(Self { handle: ReactorHandle { core: Arc::new(core) } })
    }

    /// Returns the handle with which connections are made on this reactor.
    pub fn handle(&self) -> ReactorHandle {
        self.handle.clone()
    }

    /// Runs `future` to completion on this thread.
    ///
    /// # Panics
    /// If the system fails to wait for events, which is a bug.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        Seat::run(&*self.handle.core, future)
    }
}

impl driver::lead::seat::Events for Core {
    fn seat(&self) -> &Seat {
        &self.unpark.seat
    }

    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn is_notified(&self) -> bool {
        self.unpark.notified.load(Ordering::SeqCst)
    }

    fn take_notified(&self) -> bool {
        self.unpark.notified.swap(false, Ordering::SeqCst)
    }

    fn leader(&self) -> &Waker {
        &self.leader_waker
    }

    fn is_leader_woken(&self) -> bool {
        self.leader.woken.load(Ordering::SeqCst)
    }

    fn are_of_one(&self) -> bool {
        let table = self.table();
        table.sources.len() == table.free.len() + 1
    }

    fn forget_leader(&self) {
        self.leader.woken.store(false, Ordering::SeqCst);
    }

    fn poll(&self) {
        self.turn(Some(Duration::ZERO), false);
    }

    fn wait(&self, deadline: Option<Instant>) {
        let unpark = &self.unpark;
        // From here on, any wake-up or new alarm ends the wait.
        unpark.asleep.store(true, Ordering::SeqCst);
        let alarm = self.table().alarms.first_key_value().map(|((due, _), _)| *due);
        let timeout = if self.is_notified() || self.is_leader_woken() {
            Some(Duration::ZERO)
        } else {
            let until = alarm.into_iter().chain(deadline).min();
            until.map(|due| due.saturating_duration_since(Instant::now()))
        };
        self.turn(timeout, alarm.is_some());
    }
}

impl Core {
    /// Waits for the next event, and wakes the futures concerned, and if it `rings`, those whose alarm is due.
    fn turn(&self, timeout: Option<Duration>, rings: bool) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { poll, events } = &mut *queue;
        let polled = poll.poll(events, timeout);
        self.unpark.asleep.store(false, Ordering::SeqCst);
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) => panic!("waiting for events failed: {error}"),
        }
        for event in &*events {
            let source = self.table().sources.get(event.token().0).and_then(Clone::clone);
            if let Some(source) = source {
                source.happened(event);
            }
        }
        drop(queue);
        if rings {
            self.ring();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the futures whose alarm is due.
    fn ring(&self) {
        let now = Instant::now();
        loop {
            let mut table = self.table();
            let Some(alarm) = table.alarms.first_entry().filter(|alarm| alarm.key().0 <= now) else { return };
            let waker = alarm.remove();
            drop(table);
            waker.wake();
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl ReactorHandle {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.core.table()
    }

    /// Returns the events of the reactor, for a driver that waiting threads may lead.
    pub(crate) fn events(&self) -> Arc<dyn driver::lead::seat::Events> {
        Arc::clone(&self.core) as _
    }

    /// Fails in a process that was forked from the reactor's own.
    pub(crate) fn check_process(&self) -> crate::Result<()> {
        let process = self.core.process;
        if process.is_other() { Err(process.error("this reactor", "create another one")) } else { Ok(()) }
    }

    /// Connects a TCP socket.
    pub(crate) async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Socket<TcpStream>> {
        let mut socket = self.register(TcpStream::connect(address)?)?;
        let connected = |socket: &mut TcpStream| match (socket.take_error()?, socket.peer_addr()) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
            (None, peer) => peer.map(drop),
        };
        poll_fn(|context| socket.poll_io(WRITABLE, context, connected)).await?;
        socket.io.set_nodelay(true)?;
        Ok(socket)
    }

    /// Registers a socket for events.
    pub(crate) fn register<S: Stream>(&self, mut io: S) -> io::Result<Socket<S>> {
        let readiness = Arc::new(Readiness { flags: AtomicU8::new(READABLE | WRITABLE), waker: Mutex::default() });
        let mut table = self.table();
        let index = table.free.pop().unwrap_or_else(|| {
            table.sources.push(None);
            table.sources.len() - 1
        });
        table.sources[index] = Some(Arc::clone(&readiness));
        drop(table);
        let registered = self.core.registry.register(&mut io, Token(index), Interest::READABLE | Interest::WRITABLE);
        // From here on, dropping the socket removes it from the table.
        let socket = Socket { io, index, readiness, reactor: self.clone() };
        registered.map(|()| socket)
    }

    /// Makes an alarm that is already set wake `waker`. Returns whether the alarm exists.
    fn rewire(&self, alarm: (Instant, u64), waker: &Waker) -> bool {
        let mut table = self.table();
        let Some(known) = table.alarms.get_mut(&alarm) else { return false };
        let spent = if known.will_wake(waker) { None } else { Some(std::mem::replace(known, waker.clone())) };
        // Dropping a waker may drop a task, and with it a socket of this reactor.
        drop(table);
        drop(spent);
        true
    }

    /// Waits for `time`.
    pub(crate) async fn wait(&self, time: Duration) {
        let mut timer = ReactorTimer::new(self);
        let deadline = Time::from_epoch(time);
        poll_fn(|context| timer.poll_until(deadline, context)).await;
    }
}

impl fmt::Debug for ReactorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        let sockets = table.sources.iter().flatten().count();
        f.debug_struct("Reactor").field("sockets", &sockets).field("alarms", &table.alarms.len()).finish()
    }
}

/// Wakes the thread that runs the future, if it is asleep.
struct Unpark {
    notified: AtomicBool,
    asleep: AtomicBool,
    waker: mio::Waker,
    seat: Seat,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notified.store(true, Ordering::SeqCst);
        self.interrupt();
        self.seat.attend();
    }
}

/// Wakes the future of a thread that runs the reactor in place of its own thread.
struct Leader {
    woken: AtomicBool,
    unpark: Arc<Unpark>,
}

impl Wake for Leader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.unpark.interrupt();
    }
}

impl Unpark {
    /// Ends the wait of the thread, if it is waiting.
    fn interrupt(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // This fails when the system is out of memory; the thread then wakes at its next event or alarm.
            let _ = self.waker.wake();
        }
    }
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The peer has closed, or the socket is broken. The reader must learn of it, although no further event announces it.
const ENDED: u8 = 4;

/// What a socket was last known to be ready for.
struct Readiness {
    flags: AtomicU8,
    /// One future owns a socket, so there is one to wake.
    waker: Mutex<Option<Waker>>,
}

impl Readiness {
    fn happened(&self, event: &Event) {
        let mut flags = 0;
        if event.is_readable() {
            flags |= READABLE;
        }
        if event.is_writable() {
            flags |= WRITABLE;
        }
        if event.is_read_closed() || event.is_write_closed() || event.is_error() {
            flags |= READABLE | WRITABLE | ENDED;
        }
        self.flags.fetch_or(flags, Ordering::AcqRel);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns whether the socket may be ready. If not, `context` is woken when it is.
    fn poll(&self, flag: u8, context: &mut Context<'_>) -> Poll<()> {
        // Cleared before the attempt, so that an event in between is not lost.
        let ready = || self.flags.fetch_and(!flag, Ordering::AcqRel) & (flag | ENDED) != 0;
        if ready() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        let known = waker.as_ref().is_some_and(|known| known.will_wake(context.waker()));
        let spent = if known { None } else { waker.replace(context.waker().clone()) };
        drop(waker);
        drop(spent);
        if ready() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A socket that a reactor can watch and a connection can run over.
pub(crate) trait Stream: Source + Read + Write + Unpin {
    /// Tells the peer that no more bytes follow.
    fn hang_up(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn hang_up(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(all(feature = "unix", unix))]
impl Stream for mio::net::UnixStream {
    fn hang_up(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A socket on a [`Reactor`].
pub(crate) struct Socket<S: Stream> {
    io: S,
    index: usize,
    readiness: Arc<Readiness>,
    reactor: ReactorHandle,
}

impl<S: Stream> Socket<S> {
    pub(crate) fn get_ref(&self) -> &S {
        &self.io
    }

    /// Tries `operation` if the socket may be ready for it.
    fn poll_io<T>(
        &mut self,
        flag: u8,
        context: &mut Context<'_>,
        mut operation: impl FnMut(&mut S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.readiness.poll(flag, context).is_ready() {
            match operation(&mut self.io) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A closed or broken socket would not block.
                    self.readiness.flags.fetch_and(!ENDED, Ordering::AcqRel);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.ready(flag),
                result => return Poll::Ready(result),
            }
        }
        Poll::Pending
    }

    /// Marks the socket as worth another attempt.
    fn ready(&self, flag: u8) {
        self.readiness.flags.fetch_or(flag, Ordering::AcqRel);
    }
}

impl<S: Stream> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let result = self.poll_io(READABLE, context, |io| io.read(buffer));
        // A short read has drained the socket, and an event announces the next bytes. Windows announces them only after
        // a read that would block.
        if let Poll::Ready(Ok(count)) = result
            && (count == buffer.len() || cfg!(windows))
        {
            self.ready(READABLE);
        }
        result
    }
}

impl<S: Stream> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match slices {
            [slice] => self.poll_io(WRITABLE, context, |io| io.write(slice)),
            _ => self.poll_io(WRITABLE, context, |io| io.write_vectored(slices)),
        };
        if let Poll::Ready(Ok(_)) = result {
            self.ready(WRITABLE);
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.hang_up())
    }
}

impl<S: Stream> Drop for Socket<S> {
    fn drop(&mut self) {
        // This fails if the socket was never registered; the system drops a closed socket from the queue anyway.
        let _ = self.reactor.core.registry.deregister(&mut self.io);
        let mut table = self.reactor.table();
        table.sources[self.index] = None;
        table.free.push(self.index);
    }
}

/// A timer on a [`Reactor`].
pub struct ReactorTimer {
    reactor: ReactorHandle,
    epoch: Instant,
    /// The alarm that is set: for the deadline, or earlier.
    armed: Option<(Instant, u64)>,
}

impl ReactorTimer {
    /// Creates a timer whose epoch is now.
    pub fn new(reactor: &ReactorHandle) -> Self {
        Self { reactor: reactor.clone(), epoch: Instant::now(), armed: None }
    }

    fn disarm(&mut self) {
        if let Some(armed) = self.armed.take() {
            let spent = self.reactor.table().alarms.remove(&armed);
            drop(spent);
        }
    }
}

impl Timer for ReactorTimer {
    fn clock(&self) -> Clock {
        let epoch = self.epoch;
        Clock::new(move || Time::from_epoch(epoch.elapsed()))
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        // A deadline beyond the range of the clock never comes.
        let Some(due) = self.epoch.checked_add(deadline.since_epoch()) else { return Poll::Pending };
        // Each request brings its own deadline, mostly a later one. So an earlier alarm stays, and is set again when it
        // has fired too early.
        if let Some((armed, serial)) = self.armed
            && armed <= due
            && self.reactor.rewire((armed, serial), context.waker())
        {
            return Poll::Pending;
        }
        self.disarm();
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        let mut table = self.reactor.table();
        table.serial += 1;
        let alarm = (due, table.serial);
        table.alarms.insert(alarm, context.waker().clone());
        let first = table.alarms.first_key_value().is_some_and(|(first, _)| *first == alarm);
        drop(table);
        self.armed = Some(alarm);
        if first {
            // The thread may already be waiting for a later alarm.
            self.reactor.core.unpark.interrupt();
        }
        Poll::Pending
    }
}

impl Drop for ReactorTimer {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for ReactorTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorTimer").field("armed", &self.armed.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
