//! The app: routes from queues to handlers, and the one future that runs them.
//!
//! Owns the routes, what they share, and the order of start and shutdown. In come declarations and a connection; out
//! goes one future. It must never spawn, and knows no handler by its type once it is added.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::{FutureExt, Stream, future};
use futures_util::stream::FuturesUnordered;
use hopmq::{Channel, Connection, Consumer, Timer};

use crate::alarms::Alarms;
use crate::batch::{BatchHandler, BatchHandlerSlot};
use crate::context::Context;
use crate::control::Control;
use crate::error::{Error, ErrorKind};
use crate::group::{self, Members, Moved};
use crate::handler::{Handler, HandlerSlot, Slot};
use crate::layer::Layer;
#[cfg(feature = "net")]
use crate::mode::Asynchronous;
use crate::mode::{Local, Mode, Threads};
use crate::observe::Observer;
use crate::telemetry::Propagation;
use crate::topology::{self, Exchange, Queue};
use crate::wall::WallClock;
use crate::worker::{BatchWorker, End, Gate, Intake, Job, Worker};

/// The wait before a consumer that was lost is started again: it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A set of queues with their handlers, and the state that these share.
///
/// ```no_run
/// use hopmq_app::{App, Exchange, Json, Queue, State};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// async fn on_order(Json(order): Json<Order>, State(shop): State<String>) {
///     println!("{shop} got the order {}", order.id);
/// }
///
/// async fn run() -> Result<(), hopmq_app::Error> {
///     let connection = hopmq::Connection::open("amqp://localhost").await?;
///     App::new("the shop".to_owned())
///         .exchange(Exchange::topic("shop"))
///         .route(Queue::new("orders").quorum().bind("shop", "order.*"), on_order)
///         .run(&connection)
///         .await
/// }
/// ```
#[must_use = "an app does nothing before it runs"]
pub struct App<S, M: Mode<S> = Threads> {
    state: S,
    pub(crate) exchanges: Vec<Exchange>,
    routes: Vec<Route<S, M>>,
    besides: Vec<M::Besides>,
    layers: Vec<M::Wrap>,
    observers: Vec<Arc<dyn Observer>>,
    propagation: Option<Arc<dyn Propagation>>,
    control: Control,
    drain: Duration,
    wall: WallClock,
}

struct Route<S, M: Mode<S>> {
    queue: Arc<Queue>,
    slots: Slots<S, M>,
    gate: Arc<Gate>,
}

/// The slots of a route. The partitions of a queue share them.
pub(crate) enum Slots<S, M: Mode<S>> {
    Single(Arc<M::Slots>),
    Batches(Arc<M::BatchSlots>),
}

impl<S, M: Mode<S>> Clone for Slots<S, M> {
    fn clone(&self) -> Self {
        match self {
            Self::Single(slots) => Self::Single(Arc::clone(slots)),
            Self::Batches(slots) => Self::Batches(Arc::clone(slots)),
        }
    }
}

impl<S: Send + Sync + 'static> App<S, Threads> {
    /// Returns an app with this state, whose handlers' futures are `Send`.
    pub fn new(state: S) -> Self {
        Self::with_state(state)
    }

    /// Handles the messages of a queue.
    pub fn route<A, H>(self, queue: impl Into<Queue>, handler: H) -> Self
    where
        // The compiler shows the next line when a handler's future is not `Send`.
        H: Handler<S, A, Future: Send> + Clone + Send + Sync, // Not `Send`? `App::local` takes such handlers.
        A: 'static,
    {
        let slots: <Threads as Mode<S>>::Slots = Box::new(move || Box::new(HandlerSlot::new(handler.clone())));
        self.add(queue.into(), Slots::Single(Arc::new(slots)))
    }

    /// Handles the messages of a queue in batches: see [`Batch`](crate::Batch) and [`Queue::batch`]. Failures go the
    /// way of single messages, one by one. Layers wrap handlers of single messages only.
    pub fn route_batch<A, H>(self, queue: impl Into<Queue>, handler: H) -> Self
    where
        H: BatchHandler<S, A, Future: Send> + Clone + Send + Sync,
        A: 'static,
    {
        let slots: <Threads as Mode<S>>::BatchSlots =
            Box::new(move || Box::new(BatchHandlerSlot::new(handler.clone())));
        self.add(queue.into(), Slots::Batches(Arc::new(slots)))
    }

    /// Runs a future beside the handlers, on the task that runs the app, as long as the app runs. It should end when
    /// [`Control::stopped`] does; its error ends the app.
    pub fn beside<F>(mut self, make: impl FnOnce(Context, Control) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.besides.push(<Threads as Mode<S>>::beside(make));
        self
    }

    /// Wraps the handlers of all queues in a layer. The layer that was added last sees a message first.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<S, Box<dyn Slot<S> + Send>, Slot: Send> + Send + Sync + 'static,
    {
        self.layers.push(Box::new(move |slot| Box::new(layer.wrap(slot))));
        self
    }
}

impl<S: 'static> App<S, Local> {
    /// Returns an app with this state, whose handlers and state need not be `Send`.
    pub fn local(state: S) -> Self {
        Self::with_state(state)
    }

    /// Handles the messages of a queue.
    pub fn route<A, H>(self, queue: impl Into<Queue>, handler: H) -> Self
    where
        H: Handler<S, A> + Clone,
        A: 'static,
    {
        let slots: <Local as Mode<S>>::Slots = Box::new(move || Box::new(HandlerSlot::new(handler.clone())));
        self.add(queue.into(), Slots::Single(Arc::new(slots)))
    }

    /// Handles the messages of a queue in batches: see [`Batch`](crate::Batch) and [`Queue::batch`]. Failures go the
    /// way of single messages, one by one. Layers wrap handlers of single messages only.
    pub fn route_batch<A, H>(self, queue: impl Into<Queue>, handler: H) -> Self
    where
        H: BatchHandler<S, A> + Clone,
        A: 'static,
    {
        let slots: <Local as Mode<S>>::BatchSlots = Box::new(move || Box::new(BatchHandlerSlot::new(handler.clone())));
        self.add(queue.into(), Slots::Batches(Arc::new(slots)))
    }

    /// Runs a future beside the handlers, on the task that runs the app, as long as the app runs. It should end when
    /// [`Control::stopped`] does; its error ends the app.
    pub fn beside<F>(mut self, make: impl FnOnce(Context, Control) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + 'static,
    {
        self.besides.push(Box::new(move |context, control| Box::pin(make(context, control))));
        self
    }

    /// Wraps the handlers of all queues in a layer. The layer that was added last sees a message first.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<S, Box<dyn Slot<S>>> + 'static,
    {
        self.layers.push(Box::new(move |slot| Box::new(layer.wrap(slot))));
        self
    }
}

impl<S: 'static, M: Mode<S>> App<S, M> {
    pub(crate) fn with_state(state: S) -> Self {
        Self {
            state,
            exchanges: Vec::new(),
            routes: Vec::new(),
            besides: Vec::new(),
            layers: Vec::new(),
            observers: Vec::new(),
            propagation: None,
            control: Control::default(),
            drain: Duration::from_secs(30),
            wall: WallClock::default(),
        }
    }

    #[cfg(feature = "blocking")]
    pub(crate) fn wrap(mut self, layer: M::Wrap) -> Self {
        self.layers.push(layer);
        self
    }

    pub(crate) fn add(mut self, queue: Queue, slots: Slots<S, M>) -> Self {
        if queue.partitions.is_none() {
            self.add_one(queue, slots);
            return self;
        }
        let gates = group::parts(&queue).map(|part| self.add_one(part, slots.clone())).collect();
        let members = Members::new(queue.name(), gates);
        self.besides.push(M::beside(|context, control| async move {
            members.run(context, control).await;
            Ok(())
        }));
        let router = group::router_queue(&queue);
        let shared = Arc::new(router.clone());
        let route = move |moved: Moved| group::route(Arc::clone(&shared), moved);
        self.add_one(router, Slots::Single(Arc::new(M::slots(move || HandlerSlot::new(route.clone())))));
        self
    }

    fn add_one(&mut self, queue: Queue, slots: Slots<S, M>) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        self.control.add(queue.title(), &gate);
        self.routes.push(Route { queue: Arc::new(queue), slots, gate: Arc::clone(&gate) });
        gate
    }

    /// Adds the routes of a module, as `routes![…]` makes them.
    pub fn with(self, routes: impl FnOnce(Self) -> Self) -> Self {
        routes(self)
    }

    /// Declares an exchange when the app starts.
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        self.exchanges.push(exchange);
        self
    }

    /// Shows all messages to an observer.
    pub fn observe(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Carries traces over messages: from those that are consumed to their handlers, and from handlers to what they
    /// publish.
    pub fn propagation(mut self, propagation: impl Propagation + 'static) -> Self {
        self.propagation = Some(Arc::new(propagation));
        self
    }

    /// Sets how long handlers may go on after the app was stopped; the messages of those that take longer go back to
    /// their queues. The default is 30 seconds.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Sets the clock that the deadlines of messages are compared with.
    pub fn wall_clock(mut self, wall: WallClock) -> Self {
        self.wall = wall;
        self
    }

    /// Returns a handle that stops the app, or pauses single queues, from any thread.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Returns the queues, as they are declared.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.routes.iter().map(|route| &*route.queue)
    }

    /// Returns the exchanges, as they are declared.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// Declares exchanges, queues and bindings as [`run`](Self::run) does, and runs nothing: for a deployment that
    /// declares before it starts, and for publishers that must find the queues. Queues whose name the broker chooses
    /// are left out.
    ///
    /// # Errors
    /// If a declaration is refused, or the connection ends.
    pub async fn declare(&self, connection: &Connection) -> Result<(), Error> {
        self.check()?;
        let queues = self.queues().filter(|queue| !queue.anonymous).map(|queue| queue.on(connection));
        let queues: Vec<_> = queues.collect();
        topology::declare(connection, &self.exchanges, &queues.iter().collect::<Vec<_>>()).await
    }

    /// Runs the app until it is stopped ([`Control::stop`]) or fails, on a timer of any runtime. Declares exchanges,
    /// queues and bindings first.
    ///
    /// # Errors
    /// If a declaration is refused, or the connection ends. A consumer that the broker ends alone is started again.
    ///
    /// Dropping the future stops the app at once: the messages in work go back to their queues.
    pub async fn run_with(self, connection: &Connection, mut timer: impl Timer) -> Result<(), Error> {
        let alarms = Alarms::new(timer.clock(), self.wall.clone());
        let drive = poll_fn(|task| {
            alarms.poll(&mut timer, task);
            Poll::<Result<(), Error>>::Pending
        });
        self.run_on(connection, &alarms).or(drive).await
    }

    async fn run_on(mut self, connection: &Connection, alarms: &Alarms) -> Result<(), Error> {
        self.check()?;
        for route in &mut self.routes {
            let mut queue = route.queue.on(connection);
            if queue.anonymous {
                queue.name = topology::unique_name(connection, &queue.name).await?;
            }
            route.queue = Arc::new(queue);
        }
        let queues: Vec<_> = self.routes.iter().map(|route| &*route.queue).collect();
        topology::declare(connection, &self.exchanges, &queues).await?;
        let observers: Arc<[_]> = self.observers.into();
        let context = Context::open(connection, alarms, Arc::clone(&observers), self.propagation).await?;
        let _connected = self.control.connected(connection);
        let shared = Run {
            state: &self.state,
            layers: &self.layers,
            context: &context,
            observers: &observers,
            control: &self.control,
            drain: self.drain,
        };
        let mut running: FuturesUnordered<_> = self.routes.iter().map(|route| shared.route::<M>(route)).collect();
        let besides = std::mem::take(&mut self.besides);
        let mut beside: FuturesUnordered<_> =
            besides.into_iter().map(|make| make(context.clone(), self.control.clone())).collect();
        let mut all = pin!(async {
            let both = future::zip(all(&mut running, &self.control), all(&mut beside, &self.control)).await;
            both.0.and(both.1)
        });
        let stopped = async {
            self.control.stopped().await;
            alarms.sleep(self.drain).await;
            tracing::warn!(after = ?self.drain, "handlers did not end in time: their messages go back");
            Ok(())
        };
        all.as_mut().or(stopped).await
    }

    /// Finds what contradicts itself before anything is declared.
    fn check(&self) -> Result<(), Error> {
        for (index, route) in self.routes.iter().enumerate() {
            let queue = &route.queue;
            if queue.name.is_empty() {
                return Err(Error::invalid("a queue has no name; retries and dead letters need one"));
            }
            if self.routes[..index].iter().any(|earlier| earlier.queue.name == queue.name) {
                let text =
                    format!("the queue '{}' has two handlers; each would get a part of its messages", queue.name);
                return Err(Error::invalid(text));
            }
            match (&route.slots, queue.batch) {
                (Slots::Single(_), Some(_)) => {
                    let text = format!(
                        "the queue '{}' has limits for batches, but its handler takes single messages: add it with \
                         `.route_batch(…)`, or leave out `.batch(…)`",
                        queue.name
                    );
                    return Err(Error::invalid(text));
                }
                (Slots::Batches(_), _) if queue.concurrency > 1 && queue.key.is_some() => {
                    let text = format!(
                        "the queue '{}' keeps the order of messages with the same key, which batches do only one after \
                         the other: leave out `.concurrency({})` or `.ordered_by(…)`",
                        queue.name, queue.concurrency
                    );
                    return Err(Error::invalid(text));
                }
                _ => {}
            }
            let policy = queue.policy();
            if policy.by_broker && (policy.in_slot || queue.kind != Some("quorum")) {
                let text = format!(
                    "the broker can't delay failed messages of the queue '{}': only quorum queues have such retries, \
                     and not if messages with the same key must stay in order. Leave out `.broker_retry(…)`, or write \
                     `.quorum()`",
                    queue.name,
                );
                return Err(Error::invalid(text));
            }
            let total = policy.total_wait();
            if policy.in_slot && total > crate::flow::LONGEST_IN_SLOT {
                let text = format!(
                    "the queue '{}' keeps messages in order, so that a failed one waits in its place; its waits of \
                     {} s in all are too long for that, because the broker takes a message back that is not settled in \
                     time: at most {} s are possible",
                    queue.name,
                    total.as_secs(),
                    crate::flow::LONGEST_IN_SLOT.as_secs(),
                );
                return Err(Error::invalid(text));
            }
        }
        Ok(())
    }
}

#[cfg(feature = "net")]
impl<S: 'static, M: Mode<S> + Asynchronous> App<S, M> {
    /// Runs the app on timers of async-io: see [`run_with`](Self::run_with).
    ///
    /// # Errors
    /// Those of [`run_with`](Self::run_with).
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        self.run_with(connection, hopmq::IoTimer::new()).await
    }
}

/// Waits for the end of all. The first error stops the app: the others finish what they work on.
async fn all<F>(running: &mut FuturesUnordered<F>, control: &Control) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let mut result = Ok(());
    while let Some(ended) = poll_fn(|task| Pin::new(&mut *running).poll_next(task)).await {
        if ended.is_err() && result.is_ok() {
            control.stop();
            result = ended;
        }
    }
    result
}

/// What the routes of a running app share.
struct Run<'a, S, W> {
    state: &'a S,
    layers: &'a [W],
    context: &'a Context,
    observers: &'a Arc<[Arc<dyn Observer>]>,
    control: &'a Control,
    drain: Duration,
}

impl<S: 'static, W> Run<'_, S, W> {
    /// Serves one queue until the app is stopped, and starts its consumer again when the broker ends it.
    async fn route<M: Mode<S, Wrap = W>>(&self, route: &Route<S, M>) -> Result<(), Error>
    where
        W: Fn(M::Slot) -> M::Slot,
    {
        let queue = &route.queue;
        let context = self.context.of_queue(queue);
        let mut intake = Intake::new(queue, &context, self.observers);
        let mut wait = FIRST_WAIT;
        let mut first = true;
        loop {
            intake.opened(&route.gate).await;
            if route.gate.is_stopped() {
                return Ok(());
            }
            let (channel, consumer) = match consume(context.connection(), queue, intake.prefetch(queue)).await {
                Ok(started) => started,
                Err(error) if first && !deleted_meanwhile(queue, &error) || !context.connection().is_open() => {
                    return Err(Error::route(queue.name(), error));
                }
                Err(error) => {
                    tracing::warn!(queue = queue.name(), %error, "a consumer could not be started; trying again");
                    self.again(&context, queue, &mut wait).await?;
                    continue;
                }
            };
            first = false;
            let began = context.alarms().now();
            route.gate.note_consuming();
            let (state, gate, observers, intake) = (self.state, &route.gate, self.observers, &mut intake);
            let job = Job { state, queue, context: &context, gate, observers, intake, grace: self.drain };
            let end = match &route.slots {
                Slots::Single(slots) => {
                    let slots = || self.layers.iter().fold(slots(), |slot, wrap| wrap(slot));
                    closed(Worker::new(job, consumer, slots), queue, &channel).await
                }
                Slots::Batches(slots) => closed(BatchWorker::new(job, consumer, || slots()), queue, &channel).await,
            };
            route.gate.set_consuming(false);
            match end {
                End::Stopped => return Ok(()),
                End::Paused => {}
                End::Lost(Some(error)) if !context.connection().is_open() => {
                    return Err(Error::route(queue.name(), error));
                }
                End::Lost(error) => {
                    let error = error.map_or_else(|| "it was cancelled".to_owned(), |error| error.to_string());
                    tracing::warn!(queue = queue.name(), error, "a consumer was lost; starting it again");
                    if context.alarms().now() - began > LONGEST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    self.again(&context, queue, &mut wait).await?;
                }
            }
        }
    }

    /// Waits, and declares a queue again: it may be gone, and with it its bindings.
    async fn again(&self, context: &Context, queue: &Queue, wait: &mut Duration) -> Result<(), Error> {
        context.sleep(*wait).or(self.control.stopped()).await;
        *wait = (*wait * 2).min(LONGEST_WAIT);
        match topology::declare(context.connection(), &[], &[queue]).await {
            // The broker or the link failed: the next attempt to consume says more.
            Err(error) if error.kind() == ErrorKind::Client && context.connection().is_open() => {
                tracing::warn!(queue = queue.name(), %error, "a queue could not be declared again");
                Ok(())
            }
            declared => declared,
        }
    }
}

/// Waits for the end of a worker. The consumer of a queue in order ends with its channel: the next one then gets the
/// messages that were sent ahead, in their order, before any other.
async fn closed(mut worker: impl Future<Output = End> + Unpin, queue: &Queue, channel: &Channel) -> End {
    let end = (&mut worker).await;
    if queue.keeps_order()
        && let Err(error) = channel.close().await
    {
        tracing::debug!(queue = queue.name(), %error, "the channel of a consumer could not be closed");
    }
    end
}

/// Whether the last consumer of another program took the queue with it after this program had declared it.
fn deleted_meanwhile(queue: &Queue, error: &hopmq::Error) -> bool {
    queue.auto_delete && error.code() == Some(404)
}

async fn consume(connection: &Connection, queue: &Queue, prefetch: u16) -> hopmq::Result<(Channel, Consumer)> {
    let channel = connection.channel().await?;
    let mut consume = channel.consume(queue.name()).prefetch(prefetch);
    if let Some(tag) = &queue.consumer_tag {
        consume = consume.tag(tag);
    }
    for (key, value) in queue.consumer_arguments.iter() {
        consume = consume.argument(key, value);
    }
    let consumer = consume.await?;
    Ok((channel, consumer))
}

impl<S, M: Mode<S>> fmt::Debug for App<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues: Vec<_> = self.routes.iter().map(|route| route.queue.name()).collect();
        f.debug_struct("App").field("queues", &queues).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn is_send<T: Send>(_: &T) {}

    /// Compiled, and never called: the future of an app is `Send` if its handlers' are.
    #[allow(dead_code, reason = "compiling it is the test")]
    fn the_future_of_an_app_is_send(connection: &Connection) {
        is_send(&App::new(()).route(Queue::new("a"), || async {}).run_with(connection, Never));
    }

    #[allow(dead_code, reason = "compiling it is the test")]
    fn a_local_app_takes_what_is_not_send() {
        let state = Rc::new(1);
        let _ = App::local(Rc::clone(&state)).route(Queue::new("a"), move || {
            let state = Rc::clone(&state);
            async move { drop(state) }
        });
    }

    struct Never;

    impl Timer for Never {
        fn clock(&self) -> hopmq::Clock {
            hopmq::Clock::new(|| hopmq::Time::ZERO)
        }

        fn poll_until(&mut self, _: hopmq::Time, _: &mut std::task::Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
}
