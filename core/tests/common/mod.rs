//! A client, a broker and the network between them, in one thread and on a clock that the test advances.
//!
//! A [`World`] polls the tasks that were woken (and only those, so a lost wake-up shows as a hang), then the server,
//! until nothing moves; only then the clock advances to the next alarm. So every test is deterministic and takes no
//! time.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod broker;
mod pipe;
mod random;
mod server;
mod time;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hopmq::{Builder, Channel, Connection, Driver, Error, ErrorKind, Recovery, Result};

pub(crate) use hopmq_proto::method;
pub(crate) use pipe::{Slice, Transport, Wire};
pub(crate) use random::Random;
pub(crate) use server::{Reaction, STAGES, Server, Stage, frame, header, payload};
pub(crate) use time::{VirtualTime, VirtualTimer};

/// The clock, the server, the network and the client's tasks. See the [module's documentation](self).
pub(crate) struct World {
    pub(crate) time: VirtualTime,
    pub(crate) server: Server,
    pub(crate) net: Net,
    tasks: Vec<Task>,
    transport: Option<Transport>,
}

/// The network between client and server, for clients that reconnect.
#[derive(Clone, Default)]
pub(crate) struct Net(Rc<RefCell<NetState>>);

#[derive(Default)]
struct NetState {
    /// When the client tried to connect.
    dials: Vec<hopmq::Time>,
    /// How the next attempts fail; later ones succeed.
    failures: VecDeque<Failure>,
    /// Every attempt fails.
    down: bool,
    /// Links that the server has not accepted yet.
    wires: VecDeque<Wire>,
}

/// How an attempt to connect fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Refused,
    /// The attempt never ends.
    Silence,
}

impl Net {
    /// Returns when the client tried to connect.
    pub(crate) fn dials(&self) -> Vec<hopmq::Time> {
        self.0.borrow().dials.clone()
    }

    pub(crate) fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.0.borrow_mut().failures.extend(failures);
    }

    pub(crate) fn down(&self, down: bool) {
        self.0.borrow_mut().down = down;
    }

    pub(crate) fn dial(&self, now: hopmq::Time) -> impl Future<Output = Result<Transport>> + use<> {
        let mut state = self.0.borrow_mut();
        state.dials.push(now);
        let failure = if state.down { Some(Failure::Refused) } else { state.failures.pop_front() };
        let transport = failure.is_none().then(|| {
            let (transport, wire) = pipe::pipe(64 * 1024);
            state.wires.push_back(wire);
            transport
        });
        async move {
            match (transport, failure) {
                (Some(transport), _) => Ok(transport),
                (None, Some(Failure::Silence)) => std::future::pending().await,
                _ => Err(Error::new(ErrorKind::Io, "connection refused")),
            }
        }
    }
}

struct Task {
    flag: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// A flag that is set when a task is woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// The result of a task that was [started](World::start).
pub(crate) struct Started<T>(Rc<RefCell<Option<T>>>);

impl<T> Started<T> {
    pub(crate) fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Takes the result, if the task has ended.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }

    /// Takes the result of a task that must have ended.
    #[track_caller]
    pub(crate) fn done(&self) -> T {
        self.take().expect("the task has not ended")
    }
}

/// Virtual time after which a test counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(1000);
/// Rounds without an advance of the clock after which a test counts as spinning.
const SPINS_AFTER: usize = 100_000;

impl World {
    pub(crate) fn new() -> Self {
        Self::with_capacity(64 * 1024)
    }

    /// Returns a world whose network holds up to `bytes` in each direction.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let time = VirtualTime::new();
        let (transport, wire) = pipe::pipe(bytes);
        Self {
            server: Server::new(wire, time.clone()),
            time,
            net: Net::default(),
            tasks: Vec::new(),
            transport: Some(transport),
        }
    }

    /// Cuts the link to a broker that forgets the connection, and advances the clock by a second.
    pub(crate) fn outage(&mut self) {
        self.server.forget();
        self.server.wire.cut();
        self.advance(seconds(1));
    }

    /// Connects with a connector that can reconnect, and drives the connection.
    pub(crate) fn connect_lasting(&mut self, builder: &Builder) -> Result<Connection> {
        let net = self.net.clone();
        let time = self.time.clone();
        let (connection, driver) = {
            let timer = self.time.timer();
            self.run(builder.connect_with(move || net.dial(time.now()), timer))?
        };
        self.start(driver);
        Ok(connection)
    }

    /// Connects with a connector that can reconnect, drives the connection, and opens a channel.
    pub(crate) fn open_lasting(&mut self, builder: &Builder) -> (Connection, Channel) {
        let connection = self.connect_lasting(builder).expect("the server accepts every login");
        let channel = self.run(connection.channel()).expect("the server opens channels");
        (connection, channel)
    }

    /// Replaces network and server with fresh ones, for the next connection.
    pub(crate) fn renew(&mut self) {
        let (transport, wire) = pipe::pipe(64 * 1024);
        self.server = Server::new(wire, self.time.clone());
        self.transport = Some(transport);
    }

    /// Connects, and drives the connection.
    pub(crate) fn connect_by(&mut self, builder: &Builder) -> Result<Connection> {
        let (connection, driver) = self.handshake(builder)?;
        self.start(driver);
        Ok(connection)
    }

    pub(crate) fn handshake(&mut self, builder: &Builder) -> Result<(Connection, Driver<Transport, VirtualTimer>)> {
        let transport = self.transport.take().expect("renew() comes before another connection");
        self.run(builder.handshake(transport, self.time.timer()))
    }

    /// Takes the client's end of the wire, for tests that call `handshake` themselves.
    pub(crate) fn transport(&mut self) -> Transport {
        self.transport.take().expect("renew() comes before another connection")
    }

    pub(crate) fn connect(&mut self) -> Connection {
        self.connect_by(&Connection::builder()).expect("the server accepts every login")
    }

    /// Connects with the default settings, and opens a channel.
    pub(crate) fn open(&mut self) -> (Connection, Channel) {
        self.open_by(&Connection::builder())
    }

    pub(crate) fn open_by(&mut self, builder: &Builder) -> (Connection, Channel) {
        let connection = self.connect_by(builder).expect("the server accepts every login");
        let channel = self.run(connection.channel()).expect("the server opens channels");
        (connection, channel)
    }

    /// Starts a task, and runs until nothing moves without the clock.
    #[track_caller]
    pub(crate) fn start<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> Started<T> {
        let slot = Rc::new(RefCell::new(None));
        let result = Rc::clone(&slot);
        let future = Box::pin(async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
        });
        self.tasks.push(Task { flag: Flag::raised(), future });
        self.settle();
        Started(slot)
    }

    /// Runs until `future` is done, and advances the clock as far as needed.
    #[track_caller]
    pub(crate) fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let flag = Flag::raised();
        let waker = Waker::from(Arc::clone(&flag));
        let start = self.time.now();
        loop {
            for _ in 0..SPINS_AFTER {
                if flag.take()
                    && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return value;
                }
                if !self.round() && !flag.0.load(Ordering::SeqCst) {
                    break;
                }
            }
            assert!(!flag.0.load(Ordering::SeqCst), "the task spins");
            assert!(self.time.now() - start < HANGS_AFTER, "the task hangs: {HANGS_AFTER:?} have passed");
            let Some(alarm) = self.next_alarm() else { panic!("the task hangs: nothing would wake it") };
            self.time.set(alarm);
        }
    }

    /// Runs until a started task is done, and advances the clock as far as needed.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, started: &Started<T>) -> T {
        let start = self.time.now();
        loop {
            self.settle();
            if let Some(value) = started.take() {
                return value;
            }
            assert!(self.time.now() - start < HANGS_AFTER, "the task hangs: {HANGS_AFTER:?} have passed");
            let Some(alarm) = self.next_alarm() else { panic!("the task hangs: nothing would wake it") };
            self.time.set(alarm);
        }
    }

    /// Runs until nothing moves without the clock.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        for _ in 0..SPINS_AFTER {
            if !self.round() {
                return;
            }
        }
        panic!("tasks keep waking each other without the clock");
    }

    /// Advances the clock, alarm by alarm.
    #[track_caller]
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.time.now() + by;
        self.settle();
        while let Some(alarm) = self.next_alarm().filter(|alarm| *alarm <= end) {
            self.time.set(alarm);
            self.settle();
        }
        self.time.set(end);
        self.settle();
    }

    /// Drops all tasks, drivers included.
    pub(crate) fn drop_tasks(&mut self) {
        self.tasks.clear();
    }

    /// Returns whether all tasks have ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    fn next_alarm(&self) -> Option<hopmq::Time> {
        self.time.next_alarm().into_iter().chain(self.server.next_alarm()).min()
    }

    /// Polls every woken task once. Returns whether anything moved.
    fn round(&mut self) -> bool {
        if let Some(wire) = self.net.0.borrow_mut().wires.pop_front() {
            self.server.accept(wire);
        }
        let mut moved = self.server.pump();
        let mut index = 0;
        while index < self.tasks.len() {
            let task = &mut self.tasks[index];
            if !task.flag.take() {
                index += 1;
                continue;
            }
            moved = true;
            let waker = Waker::from(Arc::clone(&task.flag));
            match task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(()) => drop(self.tasks.remove(index)),
                Poll::Pending => index += 1,
            }
        }
        moved | self.server.pump()
    }
}

/// Returns a builder of connections that recover, with the same delays in each run.
pub(crate) fn recovering() -> Builder {
    Connection::builder().heartbeat(seconds(20)).recovery(Recovery::new().seed(1))
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Returns the kind and the code of an error.
pub(crate) fn fault(error: &Error) -> (ErrorKind, Option<u16>) {
    (error.kind(), error.code())
}

/// Polls a future once, without a waker.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
