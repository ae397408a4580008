//! Checks of the lock and the wake-ups under many interleavings of threads, with the model checker shuttle.
//!
//! Handles, driver and server run on threads of the checker, which switches between them wherever [`crate::sync`] is
//! used. The clock stands still, so no timeout hides a lost wake-up: a task that is never woken is a deadlock, and the
//! checker prints the schedule that led to it. It treats all atomic operations as sequentially consistent.
//!
//! `cargo xtask shuttle` runs these tests. A failure of the random scheduler prints a seed: `cargo xtask shuttle --seed
//! SEED --iterations 1` repeats it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq_proto::method::connection::{Blocked, Unblocked};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};

use crate::common::{Server, Transport, VirtualTimer, World, seconds};
use crate::driver::lead::seat::{Events, Seat};
use crate::{Builder, Channel, Connection, Driver, Pool, wait};

/// Which threads poll the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolledBy {
    ItsThread,
    /// Its own thread and those of the handles.
    AllThreads,
    /// The thread that waits for the broker and leads, and the others.
    Leaders,
}

/// Every way of polling the driver.
const ALL: [PolledBy; 3] = [PolledBy::ItsThread, PolledBy::AllThreads, PolledBy::Leaders];

const SEED: u64 = 1;
/// Interleavings that each scheduler tries, for each [`PolledBy`].
const ITERATIONS: usize = 500;
/// A lost wake-up takes a few preemptions, each at the right moment.
const PREEMPTIONS: usize = 4;
/// Steps after which an interleaving counts as spinning.
const SPINS_AFTER: usize = 20_000;
/// How long a thread spins: a microsecond is one try.
const SPIN: Duration = Duration::from_micros(4);
/// The stack of each thread, in bytes.
const STACK: usize = 512 * 1024;
/// The high-water mark of the models, in bytes. One message of this size fills the output.
const MARK: usize = 100;

/// Runs a scenario under many interleavings.
fn check(scenario: fn(PolledBy)) {
    let iterations = std::env::var("HOPMQ_SHUTTLE_ITERATIONS");
    let iterations = iterations.map_or(ITERATIONS, |count| count.parse().expect("a number of iterations"));
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(SPINS_AFTER);
    config.silence_warnings = true;
    for polled_by in ALL {
        let random = RandomScheduler::new_from_seed(SEED, iterations);
        Runner::new(random, config.clone()).run(move || scenario(polled_by));
        let preempting = PctScheduler::new_from_seed(SEED, PREEMPTIONS, iterations);
        Runner::new(preempting, config.clone()).run(move || scenario(polled_by));
    }
}

/// A connection before its driver and its server run on threads of their own.
struct Model {
    world: World,
    driver: Driver<Transport, VirtualTimer>,
    connection: Connection,
    channel: Channel,
}

/// A connection whose driver and server run on threads of their own.
struct Running {
    connection: Connection,
    server: Arc<Mutex<Server>>,
    /// The threads of server and driver.
    threads: [JoinHandle<()>; 2],
}

fn builder() -> Builder {
    // The heartbeats' alarm comes before the deadline of any request. Otherwise each request would wake the driver.
    Connection::builder().heartbeat(seconds(2)).high_water_mark(MARK).spin(SPIN)
}

impl Model {
    /// Opens a connection and a channel over a network that holds `capacity` bytes in each direction.
    fn open(builder: &Builder, capacity: usize) -> Self {
        let mut world = World::with_capacity(capacity);
        let (connection, mut driver) = world.handshake(builder).expect("the server accepts every login");
        let channel = drive(&mut world, &mut driver, connection.channel()).expect("the server opens channels");
        Self { world, driver, connection, channel }
    }

    /// Runs a future while nothing else runs.
    fn run<F: Future + Unpin>(&mut self, future: F) -> F::Output {
        drive(&mut self.world, &mut self.driver, future)
    }

    /// Runs until the client has read what the server sent.
    fn settle(&mut self) {
        let declaring = self.channel.queue("settled").declare();
        self.run(declaring).expect("the server declares queues");
    }

    /// Starts the threads of server and driver.
    fn start(self, polled_by: PolledBy) -> (Running, Channel) {
        let Self { world, driver, connection, channel } = self;
        let server = Arc::new(Mutex::new(world.server));
        let serving = Arc::clone(&server);
        // The server uses no lock of the checker, so threads are never switched while the server is locked.
        let serving = poll_fn(move |context| serve(&serving, |server| server.poll_serve(context)));
        let serving = start("server", || block_on(serving));
        let driving = match polled_by {
            PolledBy::ItsThread => start("driver", || block_on(driver)),
            PolledBy::AllThreads => start("driver", || block_on(driver.assisted())),
            PolledBy::Leaders => {
                let driver = driver.assisted();
                let bells = Bells::new();
                driver.lead_by(Arc::clone(&bells) as Arc<dyn Events>, false);
                start("driver", move || Seat::run(&*bells, driver))
            }
        };
        (Running { connection, server, threads: [serving, driving] }, channel)
    }
}

/// Runs a future and the driver until the future is done.
fn drive<F: Future + Unpin>(
    world: &mut World,
    driver: &mut Driver<Transport, VirtualTimer>,
    mut future: F,
) -> F::Output {
    world.run(poll_fn(|context| {
        let _ = Pin::new(&mut *driver).poll(context);
        Pin::new(&mut future).poll(context)
    }))
}

impl Running {
    /// Makes the server do something that no client asked for.
    fn with_server(&self, action: impl FnOnce(&mut Server)) {
        serve(&self.server, |server| {
            action(server);
            server.write();
        });
    }

    /// Closes the connection, and waits until server and driver have ended.
    fn close(self) {
        wait(self.connection.close()).expect("the server answers");
        join(self.threads);
    }
}

/// Starts a thread. The checker's report of a deadlock contains its name.
fn start(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(run).expect("the checker has room for a few threads")
}

/// Starts a thread that waits for a future, as the threads of a blocking program do.
fn spawn(name: &str, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    start(name, || wait(future))
}

/// Events without sockets and alarms. What the server does is an event, which the thread in `wait` learns of.
struct Bells {
    seat: Seat,
    driver: Arc<Bell>,
    leader: Arc<Bell>,
    wakers: OnceLock<[Waker; 2]>,
    /// The thread in `wait`.
    waiting: Mutex<Option<Waker>>,
    /// Whether something happened that no thread in `wait` has learned of.
    happened: std::sync::atomic::AtomicBool,
    /// The threads may be switched wherever a bell is used outside of the server.
    switch: AtomicBool,
}

/// A waker of [`Bells`].
struct Bell {
    rung: std::sync::atomic::AtomicBool,
    of_driver: bool,
    bells: Weak<Bells>,
}

std::thread_local! {
    /// Whether the server runs. Then no thread may be switched, because the server is locked.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// Runs the server.
fn serve<T>(server: &Mutex<Server>, action: impl FnOnce(&mut Server) -> T) -> T {
    SERVES.set(true);
    let result = action(&mut lock(server));
    SERVES.set(false);
    result
}

impl Bells {
    fn new() -> Arc<Self> {
        let bells = Arc::new_cyclic(|bells| {
            let bell = |of_driver| Arc::new(Bell { rung: false.into(), of_driver, bells: Weak::clone(bells) });
            let (driver, leader) = (bell(true), bell(false));
            Self {
                seat: Seat::default(),
                driver,
                leader,
                wakers: OnceLock::new(),
                waiting: Mutex::default(),
                happened: false.into(),
                switch: AtomicBool::new(false),
            }
        });
        let wakers = [&bells.driver, &bells.leader].map(|bell| Waker::from(Arc::clone(bell)));
        bells.wakers.set(wakers).expect("it is set once");
        bells
    }

    fn wakers(&self) -> &[Waker; 2] {
        self.wakers.get().expect("it was set when the bells were made")
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().expect("no thread panics while it holds the lock")
    }

    fn switch(&self) {
        self.switch.store(true, Ordering::SeqCst);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let Some(bells) = self.bells.upgrade() else { return };
        let is_event = SERVES.get();
        if is_event {
            bells.happened.store(true, Ordering::SeqCst);
        } else {
            bells.switch();
            self.rung.store(true, Ordering::SeqCst);
        }
        let waiting = bells.waiting().take();
        waiting.into_iter().for_each(Waker::wake);
        if self.of_driver && !is_event {
            bells.seat.attend();
        }
    }
}

impl Events for Bells {
    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn waker(&self) -> &Waker {
        &self.wakers()[0]
    }

    fn is_notified(&self) -> bool {
        self.switch();
        self.driver.rung.load(Ordering::SeqCst)
    }

    fn take_notified(&self) -> bool {
        self.switch();
        self.driver.rung.swap(false, Ordering::SeqCst)
    }

    fn leader(&self) -> &Waker {
        &self.wakers()[1]
    }

    fn is_leader_woken(&self) -> bool {
        self.switch();
        self.leader.rung.load(Ordering::SeqCst)
    }

    fn forget_leader(&self) {
        self.switch();
        self.leader.rung.store(false, Ordering::SeqCst);
    }

    fn wait(&self, _: Option<Instant>) {
        block_on(poll_fn(|context| {
            *self.waiting() = Some(context.waker().clone());
            self.poll();
            match [&self.driver, &self.leader].iter().any(|bell| bell.rung.load(Ordering::SeqCst)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
    }

    fn poll(&self) {
        if self.happened.swap(false, Ordering::SeqCst) {
            self.driver.rung.store(true, Ordering::SeqCst);
        }
    }

    fn are_of_one(&self) -> bool {
        true
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("the thread does not panic"));
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().expect("no thread panics while it holds the lock")
}

/// Returns a message that fills the output.
fn message() -> Vec<u8> {
    vec![b'x'; MARK]
}

#[test]
fn publishes_that_wait_for_room_end_once_there_is_room() {
    check(|polled_by| {
        let (running, channel) = Model::open(&builder(), 64 * 1024).start(polled_by);
        let publishers = [1, 2].map(|_| {
            let channel = channel.clone();
            spawn("publisher", async move {
                for _ in 0..2 {
                    channel.publish("", "q", message()).send().await.expect("there will be room");
                }
            })
        });
        join(publishers);
        running.close();
    });
}

#[test]
fn publishes_that_wait_for_a_slow_network_and_their_confirms_end() {
    check(|polled_by| {
        let (running, channel) = Model::open(&builder(), MARK).start(polled_by);
        let publishers = [1, 2].map(|_| {
            let channel = channel.clone();
            spawn("publisher", async move {
                channel.publish("", "q", message()).send().await.expect("there will be room");
                channel.publish("", "q", message()).confirm().await.expect("the server confirms");
            })
        });
        join(publishers);
        running.close();
    });
}

#[test]
fn room_of_a_dropped_publish_goes_to_the_next_publisher() {
    check(|polled_by| {
        let (running, channel) = Model::open(&builder(), 64 * 1024).start(polled_by);
        let dropped = channel.clone();
        let dropping = spawn("dropping", async move {
            for _ in 0..2 {
                let mut publish = dropped.publish("", "q", message()).send();
                // When it is woken, room may be reserved for the publish.
                let mut waited = false;
                poll_fn(|context| match std::mem::replace(&mut waited, true) {
                    false => Pin::new(&mut publish).poll(context).map(drop),
                    true => Poll::Ready(()),
                })
                .await;
            }
        });
        let publisher = spawn("publisher", async move {
            for _ in 0..2 {
                channel.publish("", "q", message()).send().await.expect("there will be room");
            }
        });
        join([dropping, publisher]);
        running.close();
    });
}

#[test]
fn publishers_resume_when_the_broker_unblocks_publishing() {
    check(|polled_by| {
        let mut model = Model::open(&builder(), 64 * 1024);
        model.world.server.answer(0, &Blocked { reason: "low on disk" });
        model.settle();
        let (running, channel) = model.start(polled_by);
        let publishers = [1, 2].map(|_| {
            let channel = channel.clone();
            spawn("publisher", async move {
                channel.publish("", "q", message()).confirm().await.expect("the server confirms");
            })
        });
        running.with_server(|server| server.answer(0, &Unblocked {}));
        join(publishers);
        running.close();
    });
}

#[test]
fn requests_made_while_another_thread_polls_the_driver_are_answered() {
    check(|polled_by| {
        let (running, channel) = Model::open(&builder(), 64 * 1024).start(polled_by);
        let requesters = ["a", "b", "c"].map(|name| {
            let channel = channel.clone();
            spawn("requester", async move {
                channel.queue(name).declare().await.expect("the server declares queues");
            })
        });
        join(requesters);
        running.close();
    });
}

#[test]
fn threads_that_wait_are_answered_when_the_leader_gives_up() {
    check(|polled_by| {
        let mut model = Model::open(&builder(), 64 * 1024);
        model.world.server.holds = vec!["queue.purge"];
        let (running, channel) = model.start(polled_by);
        let other = wait(running.connection.channel()).expect("the server opens channels");
        let leaving = [1, 2].map(|_| {
            let channel = channel.clone();
            spawn("leaving", async move {
                let mut purging = channel.queue_purge("q");
                let mut waited = false;
                poll_fn(|context| match std::mem::replace(&mut waited, true) {
                    true => Poll::Ready(()),
                    false => {
                        context.waker().wake_by_ref();
                        Pin::new(&mut purging).poll(context).map(drop)
                    }
                })
                .await;
            })
        });
        let requesters = ["a", "b"].map(|name| {
            let channel = other.clone();
            spawn("requester", async move {
                for _ in 0..2 {
                    channel.queue(name).declare().await.expect("the server declares queues");
                }
            })
        });
        join(leaving);
        join(requesters);
        // Without a leader, the owner of the seat ends the driver.
        running.with_server(|server| server.wire.reset());
        drop(wait(running.connection.closed()));
        join(running.threads);
    });
}

#[test]
fn consumers_and_requests_of_several_threads_are_served_in_turn() {
    const COUNT: usize = 3;
    check(|polled_by| {
        let mut model = Model::open(&builder(), 64 * 1024);
        let channel = model.channel.clone();
        model.run(channel.queue("q").declare()).expect("the server declares queues");
        let (running, channel) = model.start(polled_by);
        let consuming = channel.clone();
        let consuming = spawn("consumer", async move {
            let mut consumer = consuming.consume("q").no_ack().await.expect("the queue exists");
            for _ in 0..COUNT {
                drop(consumer.next().await.expect("messages will come").expect("nothing fails"));
            }
        });
        let publishing = spawn("publisher", async move {
            for _ in 0..COUNT {
                channel.publish("", "q", message()).confirm().await.expect("the server confirms");
            }
        });
        join([consuming, publishing]);
        running.close();
    });
}

#[test]
fn a_consumer_that_makes_room_resumes_reading() {
    const COUNT: usize = 6;
    check(|polled_by| {
        let mut model = Model::open(&builder().receive_limit(1), 2 * MARK);
        let channel = model.channel.clone();
        model.run(channel.queue("q").declare()).expect("the server declares queues");
        for _ in 0..COUNT {
            model.run(channel.publish("", "q", message()).send()).expect("there is room");
        }
        let (running, channel) = model.start(polled_by);
        let consuming = spawn("consumer", async move {
            let mut consumer = channel.consume("q").no_ack().await.expect("the queue exists");
            for _ in 0..COUNT {
                drop(consumer.next().await.expect("messages are left").expect("nothing fails"));
            }
        });
        join([consuming]);
        running.close();
    });
}

#[test]
fn a_channel_returned_to_its_pool_goes_to_a_waiter() {
    check(|polled_by| {
        let (running, _channel) = Model::open(&builder(), 64 * 1024).start(polled_by);
        let pool = Pool::new([running.connection.clone()], 1);
        let borrowers = [1, 2, 3].map(|number| {
            let pool = pool.clone();
            spawn("borrower", async move {
                let mut borrowing = pin!(pool.get());
                let mut waited = false;
                poll_fn(|context| match std::mem::replace(&mut waited, true) {
                    // The first borrower drops its future when it is woken.
                    true if number == 1 => Poll::Ready(()),
                    _ => borrowing.as_mut().poll(context).map(drop),
                })
                .await;
            })
        });
        join(borrowers);
        drop(pool);
        running.close();
    });
}

/// Starts threads that wait until the connection ends, each for something else. The server must not answer
/// `queue.purge`.
fn wait_until_the_end(connection: &Connection, channel: &Channel) -> [JoinHandle<()>; 5] {
    let closed = connection.clone();
    let mut events = connection.events();
    let mut returns = channel.returns();
    let publishing = channel.clone();
    let purging = channel.clone();
    [
        spawn("closed", async move { drop(closed.closed().await) }),
        spawn("events", async move { while events.next().await.is_some() {} }),
        spawn("returns", async move { while returns.next().await.is_some() {} }),
        spawn("publishing", async move {
            for _ in 0..3 {
                let _ = publishing.publish("", "q", message()).send().await;
            }
        }),
        spawn("purging", async move { drop(purging.queue_purge("q").await.expect_err("the server does not answer")) }),
    ]
}

#[test]
fn the_end_of_the_link_wakes_all_waiters() {
    check(|polled_by| {
        let mut model = Model::open(&builder(), MARK);
        // The network is full with one message.
        model.world.server.deaf = true;
        let (running, channel) = model.start(polled_by);
        let waiters = wait_until_the_end(&running.connection, &channel);
        running.with_server(|server| server.wire.reset());
        join(waiters);
        join(running.threads);
    });
}

#[test]
fn a_close_by_the_program_wakes_all_waiters() {
    check(|polled_by| {
        let mut model = Model::open(&builder(), 64 * 1024);
        model.world.server.holds = vec!["queue.purge"];
        let (running, channel) = model.start(polled_by);
        let waiters = wait_until_the_end(&running.connection, &channel);
        wait(running.connection.close()).expect("the server answers");
        join(waiters);
        join(running.threads);
    });
}
