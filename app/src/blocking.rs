//! Apps of plain functions, for programs without async.
//!
//! [`App::blocking`] takes functions in place of async ones: with the same extractors, outcomes, queues, retries,
//! layers and observers, run by the same worker. They run on a pool of threads, as many at once as the
//! [`concurrency`](crate::Queue::concurrency) of their queues allows, up to the 500 threads of the pool: set
//! `BLOCKING_MAX_THREADS` for more. [`run`](App::run) blocks the thread that calls it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use hopmq_app::blocking::Out;
//! use hopmq_app::{App, Backoff, Json, Queue, State};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     id: u64,
//! }
//!
//! fn on_order(Json(order): Json<Order>, State(shop): State<String>, out: Out<u64>) -> Result<(), hopmq::Error> {
//!     println!("{shop} got the order {}", order.id);
//!     out.publish_to("shop", "receipt.new", &order.id)
//! }
//!
//! fn main() -> Result<(), hopmq_app::Error> {
//!     let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
//!     let backoff = Backoff::exponential(Duration::from_secs(1), 5).attempts(4);
//!     App::blocking("the shop".to_owned())
//!         .route(Queue::new("orders").quorum().retry(backoff).concurrency(8), on_order)
//!         .run(&connection)
//! }
//! ```
//!
//! A running function can't be ended. After [`Control::stop`](crate::Control::stop), `run` waits for those in work up
//! to the [drain timeout](App::drain_timeout), and gives the messages of others back; a layer
//! [`Timeout`](crate::Timeout) does the same while the app runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hopmq::{Properties, wait};

use crate::app::{App, Slots};
use crate::control::Control;
use crate::error::Error;
use crate::extract::FromDelivery;
use crate::flow::Verdict;
use crate::handler::{Cpu, Handler, HandlerSlot, Slot, cpu};
use crate::incoming::Incoming;
use crate::layer::Layer;
use crate::mode::{Mode, Threads};
use crate::topology::Queue;

/// Handlers that are plain functions: see [`blocking`](crate::blocking).
#[derive(Clone, Copy, Debug)]
pub struct Blocking;

impl<S: 'static> Mode<S> for Blocking {
    type Slot = <Threads as Mode<S>>::Slot;
    type Slots = <Threads as Mode<S>>::Slots;
    type Wrap = <Threads as Mode<S>>::Wrap;
    type BatchSlot = <Threads as Mode<S>>::BatchSlot;
    type BatchSlots = <Threads as Mode<S>>::BatchSlots;
    type Beside = <Threads as Mode<S>>::Beside;
    type Besides = <Threads as Mode<S>>::Besides;

    fn slots<T: Slot<S> + Unpin + Send + 'static>(make: impl Fn() -> T + Send + Sync + 'static) -> Self::Slots {
        <Threads as Mode<S>>::slots(make)
    }

    fn beside<F>(make: impl FnOnce(crate::Context, Control) -> F + Send + Sync + 'static) -> Self::Besides
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        <Threads as Mode<S>>::beside(make)
    }
}

impl<S: Send + Sync + 'static> App<S, Blocking> {
    /// Returns an app with this state, whose handlers are plain functions: see [`blocking`](crate::blocking).
    pub fn blocking(state: S) -> Self {
        Self::with_state(state)
    }

    /// Handles the messages of a queue, on a pool of threads.
    pub fn route<A, H>(self, queue: impl Into<Queue>, handler: H) -> Self
    where
        Cpu<H>: Handler<S, A, Future: Send> + Clone + Send + Sync,
        A: 'static,
    {
        let handler = cpu(handler);
        let slots: <Blocking as Mode<S>>::Slots = Box::new(move || Box::new(HandlerSlot::new(handler.clone())));
        self.add(queue.into(), Slots::Single(Arc::new(slots)))
    }

    /// Wraps the handlers of all queues in a layer. The layer that was added last sees a message first. Layers run on
    /// the thread that runs the app, so they must not block.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<S, Box<dyn Slot<S> + Send>, Slot: Send> + Send + Sync + 'static,
    {
        self.wrap(Box::new(move |slot| Box::new(layer.wrap(slot))))
    }

    /// Runs the app on this thread until it is stopped or fails. Declares exchanges, queues and bindings first.
    ///
    /// # Errors
    /// If a declaration is refused, or the connection ends. A consumer that the broker ends alone is started again.
    pub fn run(self, connection: &hopmq_blocking::Connection) -> Result<(), Error> {
        wait(self.run_with(connection.as_ref(), hopmq::IoTimer::new()))
    }

    /// Runs the app on this thread until it fails, or SIGTERM or ctrl-c stop it; then closes the connection. A second
    /// signal ends it at once; functions that are running go on until the process ends.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) and of closing the connection, and
    /// [`Interrupted`](crate::ErrorKind::Interrupted) after a second signal.
    #[cfg(feature = "signals")]
    pub fn serve(self, connection: &hopmq_blocking::Connection) -> Result<(), Error> {
        wait(self.serve_on(connection.as_ref()))
    }
}

/// A publisher of one type of messages for plain functions: mandatory, persistent, and confirmed. See
/// [`Out`](crate::Out).
#[cfg(feature = "json")]
pub struct Out<T, C = crate::Json>(crate::Out<T, C>);

#[cfg(feature = "json")]
impl<T: serde::Serialize, C: crate::Codec> Out<T, C> {
    /// Publishes a message where its type says, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Those of [`Out::publish`](crate::Out::publish).
    pub fn publish(&self, message: &T) -> hopmq::Result<()>
    where
        T: crate::Publishes,
    {
        wait(self.0.publish(message))
    }

    /// Publishes a message to an exchange with a routing key, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Those of [`Out::publish`](crate::Out::publish).
    pub fn publish_to(&self, exchange: &str, routing_key: &str, message: &T) -> hopmq::Result<()> {
        wait(self.0.publish_to(exchange, routing_key, message))
    }
}

#[cfg(feature = "json")]
impl<T, C> Clone for Out<T, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(feature = "json")]
impl<T, C> std::fmt::Debug for Out<T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "json")]
impl<S, T, C> FromDelivery<S> for Out<T, C> {
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        crate::Out::from_delivery(incoming, state).map(Self)
    }
}

/// The app around a plain function: see [`Context`](crate::Context).
#[derive(Clone, Debug)]
pub struct Context(crate::Context);

impl Context {
    /// Returns the queue of the handler.
    pub fn queue(&self) -> &str {
        self.0.queue()
    }

    /// Blocks this thread, on the app's timer.
    pub fn sleep(&self, time: Duration) {
        wait(self.0.sleep(time));
    }

    /// Publishes a message as mandatory, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Those of [`Context::publish`](crate::Context::publish).
    pub fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: impl Into<bytes::Bytes>,
    ) -> hopmq::Result<()> {
        wait(self.0.publish(exchange, routing_key, properties, body))
    }
}

impl<S> FromDelivery<S> for Context {
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        crate::Context::from_delivery(incoming, state).map(Self)
    }
}
