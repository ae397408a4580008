//! An app that runs beside a test, on a timer that the test turns.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{FutureExt, future};
use hopmq::{Channel, Clock, Connection, Properties, Time, Timer};
use hopmq_app::{App, Control, Error};
use hopmq_broker::Broker;

/// The real time limit for what should happen at once.
const LIMIT: Duration = Duration::from_secs(20);

/// A timer that a test turns.
#[derive(Clone, Default)]
pub(crate) struct Manual(Arc<Mutex<(Duration, Option<Waker>)>>);

impl Manual {
    pub(crate) fn advance(&self, time: Duration) {
        let mut state = self.0.lock().unwrap();
        state.0 += time;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Timer for Manual {
    fn clock(&self) -> Clock {
        let state = self.clone();
        Clock::new(move || Time::from_epoch(state.0.lock().unwrap().0))
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 >= deadline.since_epoch() {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What a test sees of its app and the broker.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) channel: Channel,
    pub(crate) timer: Manual,
    pub(crate) control: Control,
}

impl World {
    /// Publishes bodies to a queue.
    pub(crate) async fn publish<const N: usize>(&self, queue: &str, bodies: [&'static str; N]) {
        for body in bodies {
            self.channel.publish("", queue, body).mandatory().confirm().await.unwrap();
        }
    }

    pub(crate) async fn publish_with(&self, queue: &str, properties: &Properties, body: &'static str) {
        self.channel.publish("", queue, body).properties(properties).mandatory().confirm().await.unwrap();
    }

    /// Waits until nothing is ready or in work in a queue.
    pub(crate) async fn drained(&self, queue: &str) {
        self.broker.until(|inspect| inspect.ready(queue).is_empty() && inspect.unacked().is_empty()).await;
    }
}

/// Runs an app beside a test, stops it, and checks that nothing is left in work.
pub(crate) fn run<S: Send + Sync + 'static>(app: App<S>, test: impl AsyncFnOnce(&World)) {
    let broker = Broker::in_memory();
    let queues: Vec<_> = app.queues().map(|queue| queue.name().to_owned()).collect();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await?;
        let world = World {
            broker: broker.clone(),
            channel: connection.channel().await?,
            timer: Manual::default(),
            control: app.control(),
        };
        let driven = async {
            world.broker.until(|inspect| inspect.consumers().len() == queues.len()).await;
            test(&world).await;
            world.control.stop();
            future::pending::<Result<(), Error>>().await
        };
        app.run_with(&connection, world.timer.clone()).or(driven).await?;
        connection.close().await?;
        Ok::<_, Error>(())
    })
    .unwrap();
    broker.assert_idle();
}

/// Waits until a condition on the program itself holds.
#[track_caller]
pub(crate) fn until(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let (from, place) = (Instant::now(), std::panic::Location::caller());
    async move {
        while !condition() {
            assert!(from.elapsed() < LIMIT, "the condition at {place} did not hold within {LIMIT:?}");
            future::yield_now().await;
        }
    }
}

/// What handlers note down.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Returns a text header of a message.
pub(crate) fn header(message: &hopmq_broker::inspect::Message, name: &str) -> Option<String> {
    let headers = message.properties.headers().ok()?;
    headers.get(name).and_then(|value| value.as_str().map(str::to_owned))
}
