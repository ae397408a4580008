//! `TestApp`: virtual time, assertions, several apps, local state.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hopmq::{Message, Properties};
use hopmq_app::test::{TestApp, extract};
use hopmq_app::{App, Attempt, Backoff, Context, Exchange, Failure, Json, Queue, Retry, State};
use hopmq_broker::Profile;

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
}

fn orders() -> Queue {
    let backoff = Backoff::exponential(Duration::from_secs(60), 5).max(Duration::from_secs(1200)).attempts(6);
    Queue::new("orders").quorum().bind("shop", "order.*").retry(backoff)
}

async fn busy(Json(_): Json<Order>) -> Retry {
    Retry::because("the kitchen is busy")
}

#[test]
fn an_hour_of_retries_takes_less_than_a_second() {
    let begin = Instant::now();
    let t = TestApp::builder().embedded().start(App::new(()).exchange(Exchange::topic("shop")).route(orders(), busy));
    t.publish("shop", "order.new", &Order { id: 13 });
    t.queue("orders.retry.60000").assert_len(1);
    t.advance("1h30m");
    let (order, message) = t.queue("orders.dlq").assert_one::<Order>();
    assert_eq!((order.id, message.attempt(), message.error_class()), (13, 6, Some("retry")));
    assert_eq!(message.error(), Some("the kitchen is busy"));
    assert_eq!(message.origin(), ("shop", "order.new"));
    assert_eq!(t.handled("orders").len(), 6);
    t.assert_idle();
    t.stop();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    println!("{:?}", begin.elapsed());
}

/// An app whose broker may delay the attempts: after one minute, two, three, three.
fn delayed(profile: Profile) -> TestApp {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let queue = orders().retry(Backoff::fixed(minutes(1)).attempts(5)).broker_retry(minutes(1), minutes(3));
    let app = App::new(()).exchange(Exchange::topic("shop")).route(queue, busy);
    let t = TestApp::builder().embedded().profile(profile).start(app);
    t.publish("shop", "order.new", &Order { id: 13 });
    t
}

#[test]
fn rabbitmq_4_3_delays_the_attempts_itself() {
    let t = delayed(Profile::RabbitMq4_3);
    for (wait, attempts) in [("59s", 1), ("1s", 2), ("1m59s", 2), ("1s", 3), ("3m", 4), ("3m", 5)] {
        t.advance(wait);
        assert_eq!(t.handled("orders").len(), attempts, "after another {wait}");
    }
    let attempts: Vec<_> = t.handled("orders").iter().map(|handled| handled.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    let (_, message) = t.queue("orders.dlq").assert_one::<Order>();
    assert_eq!((message.attempt(), message.error()), (5, Some("the kitchen is busy")));
    let queues = t.broker().expect("an embedded broker").inspect().queues();
    let names: Vec<_> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert!(!names.iter().any(|name| name.contains(".retry.")), "{names:?}");
    t.stop();
}

#[test]
fn another_broker_delays_the_attempts_in_queues() {
    let t = delayed(Profile::RabbitMq4_0);
    t.queue("orders.retry.60000").assert_len(1);
    t.advance("4m");
    assert_eq!(t.queue("orders.dlq").assert_one::<Order>().1.attempt(), 5);
    t.stop();
}

type Seen = Rc<RefCell<Vec<(u32, u32)>>>;

async fn see(State(seen): State<Seen>, Json(order): Json<Order>, Attempt(attempt): Attempt) {
    seen.borrow_mut().push((order.id, attempt));
}

#[test]
fn a_local_app_has_state_that_is_not_send() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let app = App::local(Rc::clone(&seen)).route(Queue::new("local"), see);
    let t = TestApp::builder().embedded().start(app);
    t.publish("", "local", &Order { id: 1 });
    t.publish("", "local", &Order { id: 2 });
    assert_eq!(*seen.borrow(), [(1, 1), (2, 1)]);
    t.queue("local").assert_empty();
    t.stop();
}

fn failing() -> App<()> {
    App::new(()).exchange(Exchange::topic("shop")).route(orders(), busy)
}

#[test]
fn each_release_of_rabbitmq_gives_the_same_ladder() {
    for profile in [Profile::RabbitMq3_13, Profile::RabbitMq4_0, Profile::RabbitMq4_3] {
        let t = TestApp::builder().embedded().profile(profile).start(failing());
        t.publish("shop", "order.new", &Order { id: 13 });
        t.advance("1h30m");
        assert_eq!(t.queue("orders.dlq").assert_one::<Order>().1.attempt(), 6, "{profile:?}");
        t.stop();
    }
}

#[test]
fn a_seed_repeats_a_run_with_its_faults_exactly() {
    let run = |seed| {
        let t = TestApp::builder().embedded().seed(seed).start(failing());
        let mut faults = Vec::new();
        for id in 0..5 {
            faults.push(t.fault());
            t.publish("shop", "order.new", &Order { id });
            t.advance("1m");
        }
        t.heal();
        t.advance("3h");
        let transcript = t.broker().expect("it is embedded").transcript();
        let told: Vec<_> =
            transcript.iter().map(|passed| format!("{:?} {} {}", passed.at, passed.name, passed.detail)).collect();
        let ids: BTreeSet<_> = t.queue("orders.dlq").messages().iter().map(|m| m.json::<Order>().id).collect();
        assert_eq!(ids, (0..5).collect(), "seed {seed} with {faults:?}");
        t.stop();
        (faults, told)
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first.0, run(8).0);
}

#[test]
fn two_apps_share_a_queue() {
    let app = || {
        App::new(()).route(Queue::new("orders").prefetch(1), async |Json(_): Json<Order>, app: Context| {
            app.sleep(Duration::from_secs(1)).await;
        })
    };
    let t = TestApp::builder().embedded().start(app());
    let second = t.run(app());
    (0..6).for_each(|id| t.publish("", "orders", &Order { id }));
    assert_eq!(t.at_work(), 2);
    t.advance("3s");
    assert_eq!(t.handled("orders").len(), 6);
    t.stop_app(second).expect("it runs");
    t.publish("", "orders", &Order { id: 7 });
    assert_eq!(t.at_work(), 1);
    t.stop();
}

/// Returns what a failed assertion says.
#[track_caller]
fn said(assertion: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(assertion)).expect_err("it fails");
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap()
}

#[test]
fn failed_assertions_say_what_was_expected_and_what_is_there() {
    let queue = Queue::new("orders").bind("shop", "order.*");
    let t = TestApp::builder().embedded().start(App::new(()).exchange(Exchange::topic("shop")).route(queue, busy));
    let text = said(|| drop(t.queue("orders.dlq").assert_one::<Order>()));
    assert_eq!(text, "expected one message in the queue 'orders.dlq', found no message");
    t.publish("shop", "order.new", &Order { id: 1 });
    t.publish("shop", "order.new", &Order { id: 2 });
    let text = said(|| drop(t.queue("orders.dlq").assert_one::<Order>()));
    assert_eq!(
        text,
        "expected one message in the queue 'orders.dlq', found 2 messages\
         \n  1. shop/order.new, attempt 1, retry: the kitchen is busy, body \"{\\\"id\\\":1}\"\
         \n  2. shop/order.new, attempt 1, retry: the kitchen is busy, body \"{\\\"id\\\":2}\"\
         \n  handled: orders: order.new, attempt 1: retry (retry: the kitchen is busy)\
         \n  handled: orders: order.new, attempt 1: retry (retry: the kitchen is busy)"
    );
    let text = said(|| t.queue("orders.dead").assert_empty());
    assert!(
        text.starts_with(
            "expected no message in the queue 'orders.dead', which does not exist. The queues are: orders, "
        )
    );
    let text = said(|| t.publish("shop", "receipt.new", &Order { id: 3 }));
    assert_eq!(text, "no queue takes 'shop/receipt.new': there is no such binding");
    let text = said(|| drop(t.queue("orders.dlq").assert_len(2)[0].json::<Vec<u8>>()));
    assert!(text.starts_with("the body is not the JSON of alloc::vec::Vec<u8>: invalid type: map"), "{text}");
    t.stop();
}

#[test]
fn an_app_that_is_not_idle_is_told() {
    let t = TestApp::builder().embedded().start(failing());
    t.publish("shop", "order.new", &Order { id: 1 });
    let text = said(|| t.assert_idle());
    assert!(text.starts_with("expected no message in the queue 'orders.retry.60000', found one message"), "{text}");
    t.advance("2h");
    t.assert_idle();
    t.stop();
}

#[test]
fn an_extractor_is_tested_without_a_broker() {
    let properties = Properties::new().with_content_type("application/json");
    let message = Message::new("shop", "order.new", &properties, "{\"id\":7}").expect("the names are short");
    let Json(order) = extract::<Json<Order>, ()>(&message, &()).expect("it is JSON");
    assert_eq!(order.id, 7);
    let wrong = Message::new("shop", "order.new", &properties.with_content_type("text/xml"), "<id/>").expect("short");
    let verdict = extract::<Json<Order>, ()>(&wrong, &()).expect_err("it is no JSON");
    assert_eq!(verdict.failure().map(Failure::class), Some("content-type"));
}
