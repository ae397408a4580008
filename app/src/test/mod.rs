//! Tests of apps, on an embedded broker that behaves as RabbitMQ, in virtual time, on the thread of the test.
//!
//! Owns the broker, the app and the clock of one test. In come messages and time; out go the messages in queues and
//! what handlers said. It must never need a runtime, a sleep or a port, and must do the same in each run.
//!
//! ```
//! use std::time::Duration;
//! use hopmq_app::test::TestApp;
//! use hopmq_app::{App, Backoff, Exchange, Json, Queue, Retry};
//!
//! #[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
//! struct Order {
//!     id: u32,
//! }
//!
//! async fn on_order(Json(_): Json<Order>) -> Retry {
//!     Retry::because("the kitchen is closed")
//! }
//!
//! let orders = Queue::new("orders").quorum().bind("shop", "order.*");
//! let orders = orders.retry(Backoff::exponential(Duration::from_secs(1), 5).attempts(4));
//! let app = App::new(()).exchange(Exchange::topic("shop")).route(orders, on_order);
//!
//! let t = TestApp::start(app);
//! t.publish("shop", "order.new", &Order { id: 13 });
//! t.queue("orders.retry.1000").assert_len(1);
//! t.advance("10m");
//! let (order, message) = t.queue("orders.dlq").assert_one::<Order>();
//! assert_eq!((order, message.attempt()), (Order { id: 13 }, 4));
//! assert_eq!(message.error(), Some("the kitchen is closed"));
//! t.assert_idle();
//! t.stop();
//! ```
//!
//! # On a real RabbitMQ
//! With the variable `HOPMQ_TEST_URL=amqp://…`, the same test runs on the broker at that URI. The names of queues and
//! exchanges are used as they are, so tests that run at the same time need names of their own; what the app declares is
//! deleted before and after the test. [`TestApp::advance`] then waits for as long as it says, assertions wait up to ten
//! seconds for what they expect, and faults are not available: a test that needs those, or an hour, says
//! [`embedded`](Builder::embedded).

mod extract;
mod faults;
mod log;
mod message;
mod queue;
mod settings;
mod world;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use hopmq::{Channel, Connection, Properties, Recovery, Time};
use hopmq_broker::{Broker, Clock, Period};

use crate::app::App;
use crate::control::Control;
use crate::error::Error;
use crate::mode::Mode;
use crate::topology::{self, Exchange, Queue};

use log::Log;
use world::{TaskId, World};

pub use extract::extract;
pub use log::Handled;
pub use message::TestMessage;
pub use queue::TestQueue;
pub use settings::Builder;

/// An app in a test, with its broker. See the [module documentation](self).
///
/// Everything runs on the thread of the test while one of the methods runs, and stands still otherwise.
pub struct TestApp {
    world: Rc<World>,
    /// The connection of the test itself, which no fault hits.
    connection: Connection,
    apps: RefCell<Vec<Running>>,
    log: Log,
    /// What was declared, and is deleted from a real broker.
    declared: RefCell<Declared>,
    random: RefCell<faults::Random>,
    seed: u64,
}

/// An app of a test that has several: returned by [`TestApp::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(usize);

struct Running {
    control: Control,
    connection: Connection,
    driver: TaskId,
    task: TaskId,
    ended: Rc<RefCell<Option<Result<(), Error>>>>,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Declared {
    queues: Vec<String>,
    exchanges: Vec<String>,
}

impl TestApp {
    /// Runs an app until it consumes, on an embedded broker that follows RabbitMQ 4.0.
    ///
    /// # Panics
    /// If the app does not start. The message has its error.
    #[track_caller]
    pub fn start<S: 'static, M: Mode<S>>(app: App<S, M>) -> Self {
        Self::builder().start(app)
    }

    /// Returns the settings of a test: the release of RabbitMQ, the seed, …
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn open(world: Rc<World>, seed: u64) -> Self {
        let connected = world.connect(&settings_of("test", seed));
        let (connection, _) = connected.unwrap_or_else(|error| panic!("can't connect to the broker: {error}"));
        let random = RefCell::new(faults::Random::new(seed));
        let (apps, log, declared) = Default::default();
        Self { world, connection, apps, log, declared, random, seed }
    }

    /// Runs an app until it consumes, beside those that run already. An app that was stopped or killed before can be
    /// run again this way.
    ///
    /// # Panics
    /// If the app does not start. The message has its error.
    #[track_caller]
    pub fn run<S: 'static, M: Mode<S>>(&self, app: App<S, M>) -> Instance {
        self.try_run(app).unwrap_or_else(|error| panic!("the app did not start: {error}"))
    }

    /// Runs an app until it consumes, beside those that run already.
    ///
    /// # Errors
    /// If the app ends before, for example because a declaration was refused.
    pub fn try_run<S: 'static, M: Mode<S>>(&self, app: App<S, M>) -> Result<Instance, Error> {
        let instance = self.launch(app);
        let index = instance.0;
        let consumes = || {
            let apps = self.apps.borrow();
            let running = &apps[index];
            let queues = running.queues.iter();
            running.ended.borrow().is_some()
                || queues
                    .map(|queue| self.queue(queue.name()))
                    .all(|queue| queue.count().is_some_and(|n| n.consumers > 0))
        };
        let started = self.world.until(world::PATIENCE, consumes);
        let ended = self.apps.borrow()[index].ended.borrow_mut().take();
        match ended {
            Some(Err(error)) => {
                let connection = self.apps.borrow()[index].connection.clone();
                self.block_on(connection.close()).ok();
                Err(error)
            }
            Some(Ok(())) => panic!("the app ended before it consumed"),
            None if !started => panic!("the app did not consume within {:?} on the test's clock", world::PATIENCE),
            None => Ok(instance),
        }
    }

    /// Returns the app that the test was started with, the first that ran.
    pub fn app(&self) -> Instance {
        Instance(0)
    }

    /// Begins to run an app, and returns before it has done anything.
    fn launch<S: 'static, M: Mode<S>>(&self, app: App<S, M>) -> Instance {
        let queues: Vec<_> = app.queues().cloned().collect();
        let exchanges: Vec<_> = app.exchanges.iter().map(|exchange| exchange.name().to_owned()).collect();
        let all = queues.iter().flat_map(Queue::all).map(|queue| queue.name().to_owned());
        self.note(all, exchanges);
        let index = self.apps.borrow().len();
        let connected = self.world.connect(&settings_of(&format!("app {index}"), self.seed + 1 + index as u64));
        let (connection, driver) = connected.unwrap_or_else(|error| panic!("the app can't connect: {error}"));
        let app = app.observe(self.log.clone());
        let control = app.control();
        let ended = Rc::new(RefCell::new(None));
        let (link, end, timer) = (connection.clone(), Rc::clone(&ended), self.world.timer());
        let task = self.world.start(async move {
            let result = app.run_with(&link, timer).await;
            *end.borrow_mut() = Some(result);
        });
        self.apps.borrow_mut().push(Running { control, connection, driver, task, ended, queues });
        Instance(index)
    }

    /// Declares a queue, with all that belongs to it, for what handlers publish to or what exists before the app does.
    ///
    /// # Panics
    /// If the broker refuses it.
    #[track_caller]
    pub fn declare(&self, queue: Queue) {
        self.note(queue.all().iter().map(|queue| queue.name().to_owned()), []);
        self.declaration(&[], &[&queue]);
    }

    /// Declares an exchange.
    ///
    /// # Panics
    /// If the broker refuses it.
    #[track_caller]
    pub fn declare_exchange(&self, exchange: Exchange) {
        self.note([], [exchange.name().to_owned()]);
        self.declaration(&[exchange], &[]);
    }

    #[track_caller]
    fn declaration(&self, exchanges: &[Exchange], queues: &[&Queue]) {
        let declared = self.block_on(topology::declare(&self.connection, exchanges, queues));
        declared.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Copies everything that is published to an exchange with a routing key into a queue of the test: for what
    /// handlers publish. Begin before they do.
    ///
    /// # Panics
    /// If there is no such exchange.
    #[track_caller]
    pub fn tap(&self, exchange: &str, routing_key: &str) -> TestQueue<'_> {
        let name = format!("test.tap.{exchange}.{routing_key}");
        self.declare(Queue::new(&name).dead_letter(topology::DeadLetter::Reject).bind(exchange, routing_key));
        self.queue(&name)
    }

    /// Publishes a message as JSON, persistent, and lets the app handle it as far as it can without time.
    ///
    /// # Panics
    /// If no queue takes the message, or it can't be written as JSON.
    #[track_caller]
    pub fn publish<T: serde::Serialize>(&self, exchange: &str, routing_key: &str, message: &T) {
        let body = serde_json::to_vec(message).unwrap_or_else(|error| panic!("the message is no JSON: {error}"));
        let properties = Properties::new().with_content_type("application/json").with_persistent();
        self.publish_raw(exchange, routing_key, &properties, body);
    }

    /// Publishes a body with any properties, and lets the app handle it as far as it can without time.
    ///
    /// # Panics
    /// If no queue takes the message.
    #[track_caller]
    pub fn publish_raw(&self, exchange: &str, routing_key: &str, properties: &Properties, body: impl Into<Vec<u8>>) {
        let body = body.into();
        if let Some(broker) = self.broker() {
            let headers = properties.headers().unwrap_or_default();
            let routed = broker.inspect().route_with(exchange, routing_key, &headers.to_owned_table());
            assert!(!routed.is_empty(), "no queue takes '{exchange}/{routing_key}': there is no such binding");
        }
        let published = self.block_on(async {
            let channel = self.connection.channel().await?;
            if self.world.broker().is_some() {
                // Confirms may be disturbed, and must not be waited for: the broker takes the message next.
                channel.publish(exchange, routing_key, body).properties(properties).send().await?;
            } else {
                channel.publish(exchange, routing_key, body).properties(properties).mandatory().confirm().await?;
            }
            channel.close().await
        });
        published.unwrap_or_else(|error| panic!("'{exchange}/{routing_key}' could not be published: {error}"));
        self.world.settle();
    }

    /// Runs for this time, such as `"10m"`, and does everything that is due by then, each thing at its time. On a real
    /// broker, waits for as long.
    pub fn advance(&self, time: impl Into<Period>) {
        self.world.advance(time.into().duration());
    }

    /// Runs at most this many steps: each polls what was woken, or lets the broker do one thing. Between them, a test
    /// may inject a fault. Returns whether there were as many.
    pub fn steps(&self, most: u64) -> bool {
        self.world.steps(most)
    }

    /// Runs until a condition holds, at most for this time. Returns whether it holds.
    pub fn until(&self, longest: impl Into<Period>, condition: impl FnMut() -> bool) -> bool {
        self.world.until(longest.into().duration(), condition)
    }

    /// Runs a future of the test, such as an operation on [`connection`](Self::connection), together with the app.
    ///
    /// # Panics
    /// If it is not ready after 20 seconds on the test's clock.
    #[track_caller]
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.world.wait_for(future)
    }

    /// Returns the connection of the test, which is not the app's.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Connects another client with its own settings, such as its credentials. On a real broker, the URI of the test
    /// replaces those.
    ///
    /// # Panics
    /// If the broker refuses it.
    #[track_caller]
    pub fn connect(&self, settings: &hopmq::Builder) -> Connection {
        self.world.connect(settings).unwrap_or_else(|error| panic!("can't connect to the broker: {error}")).0
    }

    /// Opens a channel of the test.
    ///
    /// # Panics
    /// If the broker refuses it.
    #[track_caller]
    pub fn channel(&self) -> Channel {
        self.block_on(self.connection.channel()).unwrap_or_else(|error| panic!("can't open a channel: {error}"))
    }

    /// Returns a queue of the broker, to look at its messages.
    pub fn queue(&self, name: &str) -> TestQueue<'_> {
        TestQueue { test: self, name: name.to_owned() }
    }

    /// Returns the calls of the handler of a queue that have ended, in their order.
    pub fn handled(&self, queue: &str) -> Vec<Handled> {
        self.log.of_queue(queue)
    }

    /// Returns how many messages handlers work on now.
    pub fn at_work(&self) -> usize {
        self.log.running()
    }

    /// Returns the time of the test's clock, which a manual clock begins at zero.
    pub fn now(&self) -> Time {
        self.world.clock().now()
    }

    /// Returns the clock: a manual one on the embedded broker.
    pub fn clock(&self) -> &Clock {
        self.world.clock()
    }

    /// Returns the embedded broker; `None` on a real one.
    pub fn broker(&self) -> Option<&Broker> {
        self.world.broker()
    }

    /// Returns why an app has ended by itself: `None` while it runs.
    pub fn ended(&self, instance: Instance) -> Option<Result<(), String>> {
        let apps = self.apps.borrow();
        let ended = apps[instance.0].ended.borrow();
        ended.as_ref().map(|result| result.as_ref().copied().map_err(ToString::to_string))
    }

    /// Returns the handle that stops or pauses an app.
    pub fn control(&self, instance: Instance) -> Control {
        self.apps.borrow()[instance.0].control.clone()
    }

    /// Ends an app at once, as when its process is killed: its futures are dropped and its link ends.
    pub fn kill(&self, instance: Instance) {
        let (task, driver) = {
            let apps = self.apps.borrow();
            (apps[instance.0].task, apps[instance.0].driver)
        };
        self.world.kill(driver);
        self.world.kill(task);
        self.world.settle();
    }

    /// Stops an app as [`Control::stop`] does, and waits until it has ended, at most for ten minutes.
    ///
    /// # Errors
    /// Those of [`App::run`].
    ///
    /// # Panics
    /// If it has not ended in time, or was killed.
    #[track_caller]
    pub fn stop_app(&self, instance: Instance) -> Result<(), Error> {
        self.control(instance).stop();
        let ended = Rc::clone(&self.apps.borrow()[instance.0].ended);
        let in_time = self.world.until(Duration::from_secs(600), || ended.borrow().is_some());
        assert!(in_time, "the app did not end within ten minutes on the test's clock{}", self.story(""));
        let result = ended.borrow_mut().take();
        let connection = self.apps.borrow()[instance.0].connection.clone();
        self.block_on(connection.close()).ok();
        result.unwrap_or(Ok(()))
    }

    /// Asserts that the apps have nothing left to do: their queues and the queues in which messages wait for their next
    /// attempt are empty, and no handler runs. Dead letters and parked messages may be left.
    ///
    /// # Panics
    /// If there is something left. The message lists it.
    #[track_caller]
    pub fn assert_idle(&self) {
        assert!(self.log.running() == 0, "expected an idle app, but handlers still run: {}", self.log.running());
        let queues: Vec<_> = self.apps.borrow().iter().flat_map(|app| app.queues.clone()).collect();
        for queue in &queues {
            let policy = queue.policy();
            let ends = [policy.dead_letter, policy.parked];
            for each in queue.all() {
                if !ends.iter().flatten().any(|end| end == each.name()) && self.queue(each.name()).count().is_some() {
                    self.queue(each.name()).assert_empty();
                }
            }
        }
    }

    /// Stops the apps, closes the connections, and asserts that the broker is idle: nothing is unsettled. On a real
    /// broker, deletes what the apps declared.
    ///
    /// # Panics
    /// If an app has failed, does not stop within ten minutes, or leaves something open.
    #[track_caller]
    pub fn stop(self) {
        self.heal();
        let count = self.apps.borrow().len();
        for instance in (0..count).map(Instance) {
            let over = {
                let apps = self.apps.borrow();
                let running = &apps[instance.0];
                !self.world.is_running(running.task) && running.ended.borrow().is_none()
            };
            // It was killed, or stopped before.
            if !over {
                self.stop_app(instance).unwrap_or_else(|error| panic!("the app failed: {error}"));
            }
        }
        self.delete_declared();
        self.block_on(self.connection.close()).unwrap_or_else(|error| panic!("the test can't disconnect: {error}"));
        self.world.settle();
        if let Some(broker) = self.world.broker() {
            broker.assert_idle();
        }
    }

    /// Notes what will be declared, and deletes it from a real broker first.
    fn note(&self, queues: impl IntoIterator<Item = String>, exchanges: impl IntoIterator<Item = String>) {
        if self.world.broker().is_some() {
            return;
        }
        let mut declared = self.declared.borrow_mut();
        let queues: Vec<_> = queues.into_iter().filter(|name| !declared.queues.contains(name)).collect();
        let exchanges: Vec<_> = exchanges.into_iter().filter(|name| !declared.exchanges.contains(name)).collect();
        self.block_on(delete(&self.connection, &queues, &exchanges));
        declared.queues.extend(queues);
        declared.exchanges.extend(exchanges);
    }

    fn delete_declared(&self) {
        if self.world.broker().is_none() {
            let declared = self.declared.take();
            self.block_on(delete(&self.connection, &declared.queues, &declared.exchanges));
        }
    }

    /// Says what the app did with a queue, for the texts of assertions.
    fn story(&self, queue: &str) -> String {
        let mut text = String::new();
        for (index, app) in self.apps.borrow().iter().enumerate() {
            if let Some(Err(error)) = &*app.ended.borrow() {
                text += &format!("\n  the app {index} has ended: {error}");
            }
        }
        let owner = queue.split(".retry.").next().unwrap_or(queue);
        let owner = owner.strip_suffix(".dlq").or(owner.strip_suffix(".parked")).unwrap_or(owner);
        let handled = self.handled(owner);
        for handled in handled.iter().rev().take(10).rev() {
            text += &format!("\n  handled: {handled:?}");
        }
        text
    }
}

/// Returns the settings of a connection with this name.
fn settings_of(name: &str, seed: u64) -> hopmq::Builder {
    let builder = Connection::builder().connection_name(name).recovery(Recovery::new().seed(seed));
    builder.wait_for_broker(Duration::from_secs(600))
}

/// Deletes queues and exchanges, and tolerates what does not exist.
async fn delete(connection: &Connection, queues: &[String], exchanges: &[String]) {
    let deleted = async {
        let channel = connection.channel().await?;
        for name in queues {
            channel.queue_delete(name).delete().await?;
        }
        for name in exchanges.iter().filter(|name| !name.is_empty() && !name.starts_with("amq.")) {
            channel.exchange_delete(name).delete().await?;
        }
        channel.close().await
    };
    deleted.await.unwrap_or_else(|error: hopmq::Error| panic!("can't delete what a test declared: {error}"));
}

impl fmt::Debug for TestApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestApp").field("seed", &self.seed).field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // Tasks hold the connections, and connections wake tasks.
        self.world.clear();
    }
}
