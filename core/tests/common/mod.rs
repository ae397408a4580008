//! A client, a broker and the network between them, in one thread and on a clock that the test turns.
//!
//! A [`World`] polls what was woken (and only that, so a lost wake-up shows as a hang), then the server, until nothing
//! moves; only then the clock goes on to the next alarm. So every test is deterministic, and none takes time.
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

use hopmq::{Builder, Channel, Connection, Driver, Error, ErrorKind, Result};

pub(crate) use hopmq_proto::method;
pub(crate) use pipe::{Slice, Transport, Wire};
pub(crate) use random::Random;
pub(crate) use server::{Reaction, STAGES, Server, Stage, frame, header, payload};
pub(crate) use time::{VirtualTime, VirtualTimer};

/// Everything there is. See the [module's documentation](self).
pub(crate) struct World {
    pub(crate) time: VirtualTime,
    pub(crate) server: Server,
    pub(crate) net: Net,
    tasks: Vec<Task>,
    transport: Option<Transport>,
}

/// The way to the server, for clients that connect by themselves.
#[derive(Clone, Default)]
pub(crate) struct Net(Rc<RefCell<Ways>>);

#[derive(Default)]
struct Ways {
    /// When it was tried.
    dials: Vec<hopmq::Time>,
    /// What the next attempts come to; then they succeed.
    failures: VecDeque<Failure>,
    /// Nobody gets through.
    down: bool,
    /// Links that the server has not seen.
    wires: VecDeque<Wire>,
}

/// How an attempt fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Refused,
    /// Nothing happens, ever.
    Silence,
}

impl Net {
    /// When it was tried.
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
        let mut ways = self.0.borrow_mut();
        ways.dials.push(now);
        let failure = if ways.down { Some(Failure::Refused) } else { ways.failures.pop_front() };
        let transport = failure.is_none().then(|| {
            let (transport, wire) = pipe::pipe(64 * 1024);
            ways.wires.push_back(wire);
            transport
        });
        async move {
            match (transport, failure) {
                (Some(transport), _) => Ok(transport),
                (None, Some(Failure::Silence)) => std::future::pending().await,
                _ => Err(Error::new(ErrorKind::Io, "nobody listens")),
            }
        }
    }
}

struct Task {
    flag: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// Set when a task is woken.
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

/// What a task that was [started](World::start) came to.
pub(crate) struct Started<T>(Rc<RefCell<Option<T>>>);

impl<T> Started<T> {
    pub(crate) fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Its result, if it has ended.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }

    /// Its result; it must have ended.
    #[track_caller]
    pub(crate) fn done(&self) -> T {
        self.take().expect("it is not done yet")
    }
}

/// Virtual time after which a test is taken to hang.
const HANGS_AFTER: Duration = Duration::from_secs(1000);
/// Rounds without the clock moving after which a test is taken to spin.
const SPINS_AFTER: usize = 100_000;

impl World {
    pub(crate) fn new() -> Self {
        Self::with_capacity(64 * 1024)
    }

    /// A world whose network holds so many bytes in each direction.
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

    /// Connects as `builder` says, by a connector that can be asked again, and drives the connection.
    pub(crate) fn connect_lasting(&mut self, builder: &Builder) -> Result<Connection> {
        let (net, time) = (self.net.clone(), self.time.clone());
        let (connection, driver) = {
            let timer = self.time.timer();
            self.run(builder.connect_with(move || net.dial(time.now()), timer))?
        };
        self.start(driver);
        Ok(connection)
    }

    /// The same with one channel.
    pub(crate) fn open_lasting(&mut self, builder: &Builder) -> (Connection, Channel) {
        let connection = self.connect_lasting(builder).expect("an honest server lets everybody in");
        let channel = self.run(connection.channel()).expect("an honest server opens channels");
        (connection, channel)
    }

    /// A fresh network and a fresh server, for the next connection.
    pub(crate) fn renew(&mut self) {
        let (transport, wire) = pipe::pipe(64 * 1024);
        self.server = Server::new(wire, self.time.clone());
        self.transport = Some(transport);
    }

    /// Connects as `builder` says, and drives the connection.
    pub(crate) fn connect_by(&mut self, builder: &Builder) -> Result<Connection> {
        let (connection, driver) = self.handshake(builder)?;
        self.start(driver);
        Ok(connection)
    }

    pub(crate) fn handshake(&mut self, builder: &Builder) -> Result<(Connection, Driver<Transport, VirtualTimer>)> {
        let transport = self.transport.take().expect("renew() comes before another connection");
        self.run(builder.handshake(transport, self.time.timer()))
    }

    /// The client's end of the wire, for those who connect by hand.
    pub(crate) fn transport(&mut self) -> Transport {
        self.transport.take().expect("renew() comes before another connection")
    }

    pub(crate) fn connect(&mut self) -> Connection {
        self.connect_by(&Connection::builder()).expect("an honest server lets everybody in")
    }

    /// A connection with one channel.
    pub(crate) fn open(&mut self) -> (Connection, Channel) {
        self.open_by(&Connection::builder())
    }

    pub(crate) fn open_by(&mut self, builder: &Builder) -> (Connection, Channel) {
        let connection = self.connect_by(builder).expect("an honest server lets everybody in");
        let channel = self.run(connection.channel()).expect("an honest server opens channels");
        (connection, channel)
    }

    /// Starts a task, and lets all happen that happens without the clock.
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

    /// Runs until `future` is done, and turns the clock as far as that takes.
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
            let Some(alarm) = self.next_alarm() else { panic!("the task hangs: nothing would ever wake it") };
            self.time.set(alarm);
        }
    }

    /// Runs until what was started is done.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, started: &Started<T>) -> T {
        let start = self.time.now();
        loop {
            self.settle();
            if let Some(value) = started.take() {
                return value;
            }
            assert!(self.time.now() - start < HANGS_AFTER, "the task hangs: {HANGS_AFTER:?} have passed");
            let Some(alarm) = self.next_alarm() else { panic!("the task hangs: nothing would ever wake it") };
            self.time.set(alarm);
        }
    }

    /// Lets all happen that happens without the clock.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        for _ in 0..SPINS_AFTER {
            if !self.round() {
                return;
            }
        }
        panic!("the world never comes to rest");
    }

    /// Turns the clock, alarm by alarm.
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

    /// Ends all tasks as they are, the drivers' too.
    pub(crate) fn drop_tasks(&mut self) {
        self.tasks.clear();
    }

    /// Whether there is no task any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    fn next_alarm(&self) -> Option<hopmq::Time> {
        self.time.next_alarm().into_iter().chain(self.server.next_alarm()).min()
    }

    /// Polls everybody who was woken, once. Returns whether anything moved.
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

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The kind and the code of an error.
pub(crate) fn fault(error: &Error) -> (ErrorKind, Option<u16>) {
    (error.kind(), error.code())
}

/// Polls a future once, as somebody who is not waiting.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
