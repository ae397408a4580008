//! The services that all tests call, and how they are run.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::{FutureExt, Stream, StreamExt, future, stream};
use hopmq::{Clock, Connection, Time, Timer};
use hopmq_app::rpc::Client;
use hopmq_app::{App, Control, Deadline, rpc};
use hopmq_broker::Broker;

#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Quote {
    pub(crate) pizza: String,
    pub(crate) count: u32,
}

pub(crate) fn order(pizza: &str) -> Quote {
    Quote { pizza: pizza.into(), count: 2 }
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub(crate) enum PricingError {
    NoSuchPizza(String),
}

impl std::fmt::Display for PricingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::NoSuchPizza(pizza) = self;
        write!(f, "there is no pizza {pizza}")
    }
}

#[rpc]
pub(crate) trait Pricing {
    /// Returns the price.
    async fn quote(&self, quote: Quote) -> Result<u32, PricingError>;
    async fn sum(&self, a: u32, b: u32) -> u32;
    async fn ping(&self);
    /// Returns when the gate opens.
    async fn wait(&self);
    /// Returns the milliseconds that are left.
    async fn left(&self, #[extract] deadline: Deadline) -> Option<u64>;
    /// Asks [`left`](Self::left) through the service itself.
    async fn left_of_nested(&self, #[extract] nested: PricingClient) -> Option<u64>;
    fn watch(&self, count: u32) -> impl Stream<Item = Result<u32, PricingError>>;
    fn watch_bombs(&self) -> impl Stream<Item = Result<u32, PricingError>>;
}

#[derive(Clone, Default)]
pub(crate) struct Prices {
    pub(crate) calls: Arc<AtomicU32>,
    pub(crate) produced: Arc<AtomicU64>,
    pub(crate) gate: Gate,
    pub(crate) ended: Gate,
}

/// Opens once.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Vec<std::task::Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        state.1.drain(..).for_each(std::task::Waker::wake);
    }

    pub(crate) async fn opened(&self) {
        future::poll_fn(|task| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return std::task::Poll::Ready(());
            }
            state.1.push(task.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }
}

/// Opens a gate when it is dropped.
struct OnDrop(Gate);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Pricing for Prices {
    async fn quote(&self, quote: Quote) -> Result<u32, PricingError> {
        match quote.pizza.as_str() {
            "margherita" => Ok(quote.count * 9),
            "bomb" => panic!("no bombs"),
            _ => Err(PricingError::NoSuchPizza(quote.pizza)),
        }
    }

    async fn sum(&self, a: u32, b: u32) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed);
        a + b
    }

    async fn ping(&self) {}

    async fn wait(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.gate.opened().await;
    }

    async fn left(&self, deadline: Deadline) -> Option<u64> {
        deadline.remaining().map(|left| left.as_millis() as u64)
    }

    async fn left_of_nested(&self, nested: PricingClient) -> Option<u64> {
        nested.within(Duration::from_secs(3600)).left().await.unwrap()
    }

    fn watch(&self, count: u32) -> impl Stream<Item = Result<u32, PricingError>> {
        let ended = OnDrop(self.ended.clone());
        stream::iter(0..count).map(move |number| {
            let _held = &ended;
            self.produced.fetch_add(1, Ordering::Relaxed);
            if number == 3 { Err(PricingError::NoSuchPizza("3".into())) } else { Ok(number) }
        })
    }

    fn watch_bombs(&self) -> impl Stream<Item = Result<u32, PricingError>> {
        stream::iter(0..).map(|number| if number < 2 { Ok(number) } else { panic!("no bombs") })
    }
}

/// A timer that moves when a test says so.
#[derive(Clone, Default)]
pub(crate) struct VirtualTime(Arc<Mutex<(Duration, Vec<std::task::Waker>)>>);

impl VirtualTime {
    pub(crate) fn advance(&self, time: Duration) {
        let mut state = self.0.lock().unwrap();
        state.0 += time;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl Timer for VirtualTime {
    fn clock(&self) -> Clock {
        let state = Arc::clone(&self.0);
        Clock::new(move || Time::from_epoch(state.lock().unwrap().0))
    }

    fn poll_until(&mut self, deadline: Time, task: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 >= deadline.since_epoch() {
            return std::task::Poll::Ready(());
        }
        state.1.push(task.waker().clone());
        std::task::Poll::Pending
    }
}

/// The broker of `AMQP_URL`, if there is one. The tests share it, and its queue, so that one runs at a time.
fn shared_broker() -> Option<(String, MutexGuard<'static, ()>)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let uri = std::env::var("AMQP_URL").ok()?;
    Some((uri, ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)))
}

pub(crate) async fn connect(uri: &str) -> Connection {
    Connection::open(uri).await.unwrap()
}

/// Waits until the service answers.
pub(crate) async fn served(client: &PricingClient) {
    while client.ping().await.is_err() {
        future::yield_now().await;
    }
}

/// Runs a test beside a server on a connection of its own, on the broker of `AMQP_URL` or an embedded one.
pub(crate) fn with_server<F: Future<Output = ()>>(prices: Prices, test: impl FnOnce(Setting) -> F) {
    match shared_broker() {
        Some((uri, _one_at_a_time)) => run(&uri, prices, test),
        None => with_embedded(prices, |setting, _| test(setting)),
    }
}

/// Runs a test that disturbs its broker, which is an embedded one.
pub(crate) fn with_embedded<F: Future<Output = ()>>(prices: Prices, test: impl FnOnce(Setting, Broker) -> F) {
    let broker = Broker::builder().seed(7).start();
    run(&broker.uri(), prices, |setting| test(setting, broker.clone()));
    broker.assert_idle();
}

fn run<F: Future<Output = ()>>(uri: &str, prices: Prices, test: impl FnOnce(Setting) -> F) {
    future::block_on(async {
        let (serving, connection) = (connect(uri).await, connect(uri).await);
        let (queue, handler) = serve_pricing(prices.clone());
        let app = App::new(()).route(queue, handler);
        let control = app.control();
        let client = Client::open(&connection).await.unwrap();
        let pricing = PricingClient::new(client.clone()).within(Duration::from_secs(20));
        let time = VirtualTime::default();
        let setting = Setting {
            time: time.clone(),
            uri: uri.to_owned(),
            prices,
            client,
            pricing: pricing.clone(),
            connection: connection.clone(),
            control: control.clone(),
        };
        let test = async {
            served(&pricing).await;
            test(setting).await;
            control.stop();
            future::pending().await
        };
        app.run_with(&serving, time).or(test).await.unwrap();
        drop(pricing);
        connection.close().await.unwrap();
        serving.close().await.unwrap();
    });
}

/// What a test has.
pub(crate) struct Setting {
    /// The time of the server.
    pub(crate) time: VirtualTime,
    pub(crate) uri: String,
    pub(crate) prices: Prices,
    pub(crate) client: Client,
    pub(crate) pricing: PricingClient,
    pub(crate) connection: Connection,
    pub(crate) control: Control,
}
