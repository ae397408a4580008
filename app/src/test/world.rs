//! The one thread of a test: it polls the app, the drivers of connections and the broker, and moves the clock.
//!
//! Owns the tasks and the time. In come futures and the wish to go on; out goes the same sequence of steps for the same
//! seed. It must never know a queue or a handler. On a real broker it does the same in real time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use hopmq::{Builder, Connection, Time, Timer};
use hopmq_broker::{Broker, Clock};

/// Steps at one time of the clock after which something must be in an endless loop.
const MOST_STEPS: u64 = 2_000_000;
/// The longest time that an operation of a test may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The broker that a test runs on.
pub(super) enum Place {
    /// The embedded one, driven by hand, on a manual clock.
    Embedded(Broker),
    /// The one at this URI.
    Real(String),
}

pub(super) struct World {
    pub(super) place: Place,
    clock: Clock,
    tasks: RefCell<Vec<Task>>,
    /// Tasks that were started, and not polled yet.
    started: RefCell<Vec<Task>>,
    serial: Cell<u64>,
    steps: Cell<u64>,
}

/// The number of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskId(u64);

struct Task {
    id: TaskId,
    flag: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// Whether a task was woken. Drivers of real connections wake from another thread.
struct Flag(AtomicBool, Thread);

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true), std::thread::current()))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        self.1.unpark();
    }
}

impl World {
    pub(super) fn new(place: Place) -> Self {
        let clock = match &place {
            Place::Embedded(broker) => broker.clock().clone(),
            Place::Real(_) => Clock::system(),
        };
        let (tasks, started) = Default::default();
        Self { place, clock, tasks, started, serial: Cell::new(0), steps: Cell::new(0) }
    }

    pub(super) fn broker(&self) -> Option<&Broker> {
        match &self.place {
            Place::Embedded(broker) => Some(broker),
            Place::Real(_) => None,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn timer(&self) -> BrokerTimer {
        BrokerTimer { clock: self.clock.clone(), alarm: self.clock.alarm() }
    }

    pub(super) fn start(&self, future: impl Future<Output = ()> + 'static) -> TaskId {
        let id = TaskId(self.serial.get());
        self.serial.set(id.0 + 1);
        self.started.borrow_mut().push(Task { id, flag: Flag::new(), future: Box::pin(future) });
        id
    }

    /// Drops a task where it stands.
    pub(super) fn kill(&self, id: TaskId) {
        let mut dropped = Vec::new();
        for list in [&self.tasks, &self.started] {
            let mut list = list.borrow_mut();
            while let Some(index) = list.iter().position(|task| task.id == id) {
                dropped.push(list.remove(index));
            }
        }
        // What a task drops may wake others, and must find no list borrowed.
        drop(dropped);
    }

    /// Returns whether a task has not ended.
    pub(super) fn is_running(&self, id: TaskId) -> bool {
        [&self.tasks, &self.started].iter().any(|list| list.borrow().iter().any(|task| task.id == id))
    }

    /// Drops all tasks.
    pub(super) fn clear(&self) {
        let tasks = (std::mem::take(&mut *self.tasks.borrow_mut()), std::mem::take(&mut *self.started.borrow_mut()));
        drop(tasks);
    }

    /// Connects to the broker, and starts the connection's driver.
    pub(super) fn connect(&self, builder: &Builder) -> hopmq::Result<(Connection, TaskId)> {
        match &self.place {
            Place::Embedded(broker) => {
                let broker = broker.clone();
                let connector = move || std::future::ready(Ok(broker.connect()));
                let connected = self.wait_for(builder.connect_with(connector, self.timer()));
                connected.map(|(connection, driver)| (connection, self.start(driver)))
            }
            Place::Real(uri) => {
                let builder = builder.clone().uri(uri);
                let connected = self.wait_for(builder.connect());
                connected.map(|(connection, driver)| (connection, self.start(driver)))
            }
        }
    }

    /// Runs until a future of the test is ready. Moves the clock if nothing else can go on.
    pub(super) fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let flag = Flag::new();
        let waker = Waker::from(Arc::clone(&flag));
        let end = self.clock.now() + PATIENCE;
        loop {
            if flag.0.swap(false, Ordering::SeqCst)
                && let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return done;
            }
            if self.step() || flag.0.load(Ordering::SeqCst) {
                continue;
            }
            assert!(self.pass(end), "an operation of the test was not done within {PATIENCE:?} on the test's clock");
        }
    }

    /// Runs until nothing can go on without time. On a real broker: what can run now.
    pub(super) fn settle(&self) {
        let begin = self.steps.get();
        while self.step() {
            assert!(
                self.steps.get() - begin < MOST_STEPS,
                "the app or the broker loops without end: after {MOST_STEPS} steps at one time of the clock there is \
                 still more to do"
            );
        }
    }

    /// Runs at most this many steps. Returns whether there were as many.
    pub(super) fn steps(&self, most: u64) -> bool {
        (0..most).all(|_| self.step())
    }

    /// Runs for this time: on the embedded broker to the moment when everything due by then is done, each thing at its
    /// time.
    pub(super) fn advance(&self, time: Duration) {
        let end = self.clock.now() + time;
        self.settle();
        while self.pass(end) {
            self.settle();
        }
        self.clock.set(end);
        self.settle();
    }

    /// Runs until a condition holds, at most for this time. Returns whether it holds.
    pub(super) fn until(&self, longest: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = self.clock.now() + longest;
        loop {
            self.settle();
            if condition() {
                return true;
            }
            if !self.pass(end) {
                return false;
            }
        }
    }

    /// Moves the clock to the next alarm, if it is not after `end`; on a real broker, waits for something to happen.
    /// Returns false if time is up.
    pub(super) fn pass(&self, end: Time) -> bool {
        match &self.place {
            Place::Embedded(_) => match self.clock.next_alarm() {
                Some(next) if next <= end && next.since_epoch() < Duration::MAX => {
                    self.clock.set(next);
                    true
                }
                _ => false,
            },
            Place::Real(_) => {
                let now = self.clock.now();
                if now >= end {
                    return false;
                }
                std::thread::park_timeout((end - now).min(Duration::from_millis(20)));
                true
            }
        }
    }

    /// Polls each woken task once, or runs one step of the broker. Returns whether there was anything to do.
    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.round() || self.broker().is_some_and(Broker::tick)
    }

    fn round(&self) -> bool {
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.append(&mut self.started.borrow_mut());
        let mut moved = false;
        tasks.retain_mut(|task| {
            if !task.flag.0.swap(false, Ordering::SeqCst) {
                return true;
            }
            moved = true;
            let waker = Waker::from(Arc::clone(&task.flag));
            task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        let mut kept = self.tasks.borrow_mut();
        tasks.append(&mut kept);
        *kept = tasks;
        moved
    }
}

/// The timer of clients on the broker's clock.
pub(super) struct BrokerTimer {
    clock: Clock,
    alarm: hopmq_broker::Alarm,
}

impl Timer for BrokerTimer {
    fn clock(&self) -> hopmq::Clock {
        let clock = self.clock.clone();
        hopmq::Clock::new(move || clock.now())
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll_until(deadline, context)
    }
}
