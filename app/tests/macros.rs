//! Handlers that say their queue in an attribute.
#![cfg(feature = "macros")]

use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::{FieldTable, Message};
use hopmq_app::{
    App, Attempt, Backoff, DeadLetter, Existing, FromRef, Incoming, Queue, State, Text, Verdict, consumer, handler,
    routes,
};
use hopmq_broker::Broker;

#[derive(Clone, Default)]
struct Shop {
    log: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

struct Log(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl FromRef<Shop> for Log {
    fn from_ref(shop: &Shop) -> Self {
        Self(shop.log.clone())
    }
}

/// An extractor of one state only.
struct Entries(usize);

impl hopmq_app::FromDelivery<Shop> for Entries {
    fn from_delivery(_: &mut Incoming, shop: &Shop) -> Result<Self, Verdict> {
        Ok(Self(shop.log.lock().unwrap().len()))
    }
}

const QUEUE: &str = "every";
const BACKOFF_DELAY: Duration = Duration::from_secs(2);

fn customer(message: &Message) -> Option<i64> {
    message.header("customer").and_then(|value| value.as_i64())
}

fn no_arguments() -> FieldTable {
    FieldTable::new()
}

#[consumer(
    queue = QUEUE,
    bind = "shop/order.*",
    bind("a/b", "*x"),
    bind_with("headers", "", no_arguments()),
    classic,
    auto_delete,
    single_active_consumer,
    argument("x-max-length", 1000),
    argument("x-message-ttl", 60_000),
    existing = adopt,
    retry(first = "1s", factor = 5, max = "5m", attempts = 5, jitter = 20),
    retry_class("timeout", list = ["1s", BACKOFF_DELAY]),
    retry_class("busy", fixed = "1m30s", attempts = 2),
    retry_class("wrong", never),
    dead_letter = "every.dead",
    delivery_limit = 3,
    body_limit = 1 << 20,
    concurrency = 4,
    prefetch = 8,
    ordered_by = customer,
    priority = -5,
    consumer_argument("x-cancel-on-ha-failover", true),
    consumer_tag = "tag",
    state = Shop
)]
async fn every_word(_: Text, _: State<Log>, entries: Entries) -> Result<Verdict, String> {
    if entries.0 == 0 { Ok(Verdict::Ack) } else { Err("the log has entries".into()) }
}

#[test]
fn each_word_does_what_the_method_does() {
    let seconds = Duration::from_secs;
    let backoff = Backoff::exponential(seconds(1), 5).max(seconds(300)).attempts(5).jitter(20);
    let by_hand = Queue::new("every")
        .classic()
        .auto_delete()
        .single_active_consumer()
        .bind("shop", "order.*")
        .bind("a/b", "*x")
        .bind_with("headers", "", FieldTable::new())
        .argument("x-max-length", 1000)
        .argument("x-message-ttl", 60_000)
        .existing(Existing::Adopt)
        .retry(backoff)
        .retry_class("timeout", Backoff::list([seconds(1), seconds(2)]))
        .retry_class("busy", Backoff::fixed(seconds(90)).attempts(2))
        .retry_class("wrong", Backoff::never())
        .dead_letter(DeadLetter::To("every.dead".into()))
        .delivery_limit(3)
        .body_limit(1 << 20)
        .concurrency(4)
        .prefetch(8)
        .ordered_by(customer)
        .priority(-5)
        .consumer_argument("x-cancel-on-ha-failover", true)
        .consumer_tag("tag");
    assert_eq!(shown(App::new(Shop::default()).with(routes![every_word])), [format!("{by_hand:?}")]);
}

#[consumer(queue = "exclusive", exclusive, dead_letter, retry = Backoff::never())]
async fn dead_letters_of_an_exclusive_queue() {}

#[consumer(queue = "none", dead_letter = false, existing = Existing::Require, retry(first = "1s"))]
async fn no_dead_letters() {}

#[test]
fn dead_letters_are_named_queues_or_none() {
    let exclusive = Queue::new("exclusive").exclusive().dead_letter(DeadLetter::Queues).retry(Backoff::never());
    let retry = Backoff::exponential(Duration::from_secs(1), 2);
    let none = Queue::new("none").dead_letter(DeadLetter::Reject).existing(Existing::Require).retry(retry);
    let app = App::new(()).with(routes![dead_letters_of_an_exclusive_queue, no_dead_letters]);
    assert_eq!(shown(app), [format!("{exclusive:?}"), format!("{none:?}")]);
}

fn shown<S: Send + Sync + 'static>(app: App<S>) -> Vec<String> {
    app.queues().map(|queue| format!("{queue:?}")).collect()
}

mod shop {
    use super::*;

    #[consumer(queue = "words", retry(fixed = "1ms", attempts = 2))]
    pub(super) async fn on_word(
        Text(word): Text,
        Attempt(attempt): Attempt,
        State(log): State<Log>,
    ) -> Result<(), String> {
        log.0.lock().unwrap().push(format!("{word} {attempt}"));
        if attempt == 1 { Err("once more".into()) } else { Ok(()) }
    }
}

#[consumer(queue = "grind", concurrency = 2)]
fn grind(Text(word): Text, State(log): State<Log>) {
    log.0.lock().unwrap().push(format!("ground {word}"));
}

#[handler]
async fn by_hand(Text(word): Text, State(log): State<Log>) {
    log.0.lock().unwrap().push(format!("{word} by hand"));
}

#[test]
fn routes_run_beside_those_that_are_added_by_hand() {
    let broker = Broker::in_memory();
    let shop = Shop::default();
    let app = App::new(shop.clone()).with(routes![shop::on_word, cpu(grind)]).route(Queue::new("hand"), by_hand);
    let control = app.control();
    future::block_on(async {
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let channel = connection.channel().await?;
        let test = async {
            broker.until(|inspect| inspect.consumers().len() == 3).await;
            for queue in ["words", "grind", "hand"] {
                channel.publish("", queue, "a").mandatory().confirm().await?;
            }
            broker.until(|inspect| inspect.ready("words").is_empty() && inspect.unacked().is_empty()).await;
            broker.until(|inspect| inspect.ready("grind").is_empty() && inspect.ready("hand").is_empty()).await;
            control.stop();
            future::pending::<Result<(), hopmq_app::Error>>().await
        };
        app.run(&connection).or(test).await?;
        connection.close().await?;
        Ok::<_, hopmq_app::Error>(())
    })
    .unwrap();
    let mut log = shop.log.lock().unwrap().clone();
    log.sort_unstable();
    assert_eq!(log, ["a 1", "a 2", "a by hand", "ground a"]);
    broker.assert_idle();
}

#[consumer(queue = "local")]
async fn on_one_thread(State(log): State<std::rc::Rc<Shop>>) {
    std::future::ready(()).await;
    log.log.lock().unwrap().push("local".into());
}

#[test]
fn routes_of_a_local_app_need_not_be_send() {
    let app = App::local(std::rc::Rc::new(Shop::default())).with(routes![on_one_thread]);
    assert_eq!(app.queues().next().map(Queue::name), Some("local"));
}

#[test]
fn a_function_with_an_attribute_can_be_called() {
    let shop = Shop::default();
    let state = || State(Log(shop.log.clone()));
    let first = future::block_on(shop::on_word(Text("x".into()), Attempt(1), state()));
    assert_eq!(first, Err("once more".to_owned()));
    grind(Text("y".into()), state());
    assert_eq!(*shop.log.lock().unwrap(), ["x 1", "ground y"]);
}
