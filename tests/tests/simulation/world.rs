//! The world of one run: the clock, the network, the broker, and the program's tasks.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use hopmq::{Builder, Connection, Queue, Time};
use hopmq_broker::CrashStorage;
use hopmq_broker::store::Settings;
use hopmq_broker::{Broker, Clock};

use crate::network::Network;
use crate::time::VirtualTime;

/// The world. Clones share one world.
#[derive(Clone)]
pub(crate) struct World(Rc<Inner>);

struct Inner {
    time: VirtualTime,
    clock: Clock,
    broker: Broker,
    disk: RefCell<CrashStorage>,
    /// Steps of the broker until it crashes.
    crash_in: Cell<Option<u64>>,
    crashes: Cell<u64>,
    network: Network,
    tasks: RefCell<Vec<Task>>,
    /// Tasks that were started, but not polled yet.
    started: RefCell<Vec<Task>>,
    random: RefCell<Random>,
    connections: RefCell<Vec<Connection>>,
    copies: RefCell<Vec<Queue>>,
}

struct Task {
    flag: Arc<Flag>,
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Rounds at one time of the clock after which a task must be in an endless loop.
const SPINS_AFTER: usize = 200_000;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Clock::manual();
        let disk = CrashStorage::new();
        // In half of the cases, most operations of the broker are cut, and crashes come between their parts.
        let steps = [1, 2, 5, 2048, 2048, 2048][(seed % 6) as usize];
        let broker = Broker::builder().clock(&clock).seed(seed).turn_steps(steps).store(Settings::small());
        let broker = broker.open_by_hand(disk.clone());
        let broker = broker.expect("the disk is empty and works");
        Self(Rc::new(Inner {
            time: VirtualTime::new(),
            clock,
            broker,
            disk: RefCell::new(disk),
            crash_in: Cell::new(None),
            crashes: Cell::new(0),
            network: Network::new(seed),
            tasks: RefCell::default(),
            started: RefCell::default(),
            random: RefCell::new(Random::new(seed ^ 0xabcd)),
            connections: RefCell::default(),
            copies: RefCell::default(),
        }))
    }

    pub(crate) fn now(&self) -> Time {
        self.0.time.now()
    }

    /// Draws a number below `limit`.
    pub(crate) fn random(&self, limit: u64) -> u64 {
        self.0.random.borrow_mut().below(limit)
    }

    pub(crate) fn start(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.0.started.borrow_mut().push(Task { flag, name, future: Box::pin(future) });
    }

    /// Returns the number of tasks that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.0.tasks.borrow().len() + self.0.started.borrow().len()
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.0.time.sleep(time).await;
    }

    /// Connects over the network, and starts the connection's driver.
    pub(crate) async fn connect(&self, builder: &Builder) -> Connection {
        let world = Rc::downgrade(&self.0);
        let connector = move || {
            let world = world.upgrade().expect("the world outlives its tasks");
            let dialed = world.network.dial(world.time.now()).map(|(client, server)| {
                world.broker.serve(server);
                client
            });
            std::future::ready(dialed)
        };
        let connected = builder.connect_with(connector, self.0.time.timer()).await;
        let (connection, driver) = connected.expect("wait_for_broker retries until the broker accepts");
        self.start("driver", driver);
        connection
    }

    /// Injects a random fault of the network or the broker.
    pub(crate) fn fault(&self, random: &mut Random) {
        if random.below(5) == 0 {
            // Within the broker's next 60 steps.
            self.0.crash_in.set(Some(random.below(60)));
        } else {
            self.0.network.fault(self.now(), random);
        }
    }

    /// Kills the broker's process or cuts its machine's power, then restarts it with its disk.
    fn crash(&self) {
        self.0.crashes.set(self.0.crashes.get() + 1);
        let disk = self.0.disk.borrow().clone();
        let found = || {
            let found = if self.random(3) == 0 { disk.clone() } else { disk.power_cut(self.random(u64::MAX)) };
            *self.0.disk.borrow_mut() = found.clone();
            found
        };
        self.0.broker.faults().crash(found).expect("the disk is not damaged");
    }

    /// Returns how often the broker crashed.
    pub(crate) fn crashes(&self) -> u64 {
        self.0.crashes.get()
    }

    /// Runs a step of the broker. Returns false if there was none.
    fn tick(&self) -> bool {
        match self.0.crash_in.get() {
            Some(0) => {
                self.0.crash_in.set(None);
                self.crash();
            }
            Some(left) => self.0.crash_in.set(Some(left - 1)),
            None => {}
        }
        self.0.broker.tick()
    }

    /// Returns the protocol violations of clients.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.network.violations()
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.0.crash_in.set(None);
        self.0.network.heal();
    }

    pub(crate) fn note_connection(&self, connection: Connection) {
        self.0.connections.borrow_mut().push(connection);
    }

    pub(crate) fn note_copy(&self, queue: Queue) {
        self.0.copies.borrow_mut().push(queue);
    }

    /// Returns the names that the broker chose for queues.
    pub(crate) fn copies(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.copies.borrow().iter().map(|queue| queue.name().to_owned()).collect();
        names.sort();
        names
    }

    /// Returns the numbers of ready and unacked messages of a queue.
    pub(crate) fn queue(&self, name: &str) -> Option<(u64, u64)> {
        let queue = self.0.broker.inspect().queue(name)?;
        Some((queue.ready as u64, queue.unacked as u64))
    }

    pub(crate) fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        let mut queues = self.0.broker.inspect().route(exchange, key);
        queues.sort();
        queues
    }

    /// Shuts down all connections, and runs until all tasks have ended.
    pub(crate) fn shut_down(&self) {
        self.0.copies.borrow_mut().clear();
        for connection in self.0.connections.borrow_mut().drain(..) {
            self.start("shutdown", async move {
                connection.shutdown(Duration::from_secs(60)).await.expect("the shutdown completes in time");
            });
        }
        let begin = self.now();
        let connections = || self.0.broker.inspect().connections().len();
        while self.running() + connections() > 0 && self.now() - begin < Duration::from_secs(200) && self.step() {}
        let running: Vec<&str> = self.0.tasks.borrow().iter().map(|task| task.name).collect();
        assert!(running.is_empty(), "after {:?} tasks still run: {running:?}", self.now() - begin);
        let left = self.0.broker.inspect().connections();
        assert!(left.is_empty(), "after {:?} the broker still has connections: {left:?}", self.now() - begin);
    }

    /// Runs all that can run now, then advances the clock to the next timer or arrival. Returns false if there is none.
    pub(crate) fn step(&self) -> bool {
        self.settle();
        self.turn(Time::from_epoch(Duration::MAX))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let end = self.now() + by;
        self.settle();
        while self.turn(end) {
            self.settle();
        }
        self.set(end);
        self.settle();
    }

    fn turn(&self, until: Time) -> bool {
        let inner = &self.0;
        let alarms = [inner.time.next_alarm(), inner.clock.next_alarm(), inner.network.next_arrival()];
        let next = alarms.into_iter().flatten().filter(|time| time.since_epoch() < Duration::MAX).min();
        match next {
            Some(next) if next <= until => {
                self.set(next);
                true
            }
            _ => false,
        }
    }

    fn set(&self, now: Time) {
        self.0.time.set(now);
        self.0.clock.set(now);
        self.0.network.arrive(now);
    }

    fn settle(&self) {
        for _ in 0..SPINS_AFTER {
            let mut moved = self.round();
            while self.tick() {
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("a task or the broker loops without end");
    }

    /// Polls every woken task once. Returns whether there was one.
    fn round(&self) -> bool {
        let mut tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        tasks.append(&mut self.0.started.borrow_mut());
        let mut moved = false;
        tasks.retain_mut(|task| {
            if !task.flag.0.swap(false, Ordering::SeqCst) {
                return true;
            }
            moved = true;
            let waker = Waker::from(Arc::clone(&task.flag));
            task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        self.0.tasks.borrow_mut().append(&mut tasks);
        moved || !self.0.started.borrow().is_empty()
    }
}

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws a number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
