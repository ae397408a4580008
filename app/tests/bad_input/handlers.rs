//! Handlers that panic, block the shutdown, or end the link.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hopmq::Properties;
use hopmq_app::flow::Verdict;
use hopmq_app::test::TestApp;
use hopmq_app::{Ack, App, Attempt, Backoff, Context, FromDelivery, Incoming, Json, Queue, Retry, State, Text};
use hopmq_broker::Broker;

use crate::{Order, test};

#[track_caller]
fn assert_panicked(t: &TestApp, text: &str) {
    let dead = t.queue("orders.dlq").assert_len(1).remove(0);
    assert_eq!(dead.error_class(), Some("panic"));
    assert_eq!(dead.error(), Some(text));
    t.assert_idle();
}

/// Publishes an order that must be handled although another one went wrong.
#[track_caller]
fn assert_goes_on(t: &TestApp) {
    let before = t.handled("orders").len();
    t.publish("", "orders", &Order { id: 1 });
    let handled = t.handled("orders");
    assert_eq!((handled.len(), handled.last().map(|handled| handled.verdict)), (before + 1, Some("ack")));
}

#[test]
fn a_handler_that_panics_fails_and_others_go_on() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |Json(order): Json<Order>| {
        assert!(order.id != 0, "what is order {}?", order.id);
    }));
    t.publish("", "orders", &Order { id: 0 });
    assert_panicked(&t, "the handler panicked: what is order 0?");
    assert_goes_on(&t);
    t.stop();
}

#[test]
fn a_panic_counts_as_a_failure_that_is_tried_again() {
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::from_secs(1)).attempts(3));
    let t = test().start(App::new(()).route(queue, async |Attempt(attempt): Attempt| {
        assert!(attempt == 3, "not yet");
    }));
    t.publish("", "orders", &Order { id: 0 });
    t.advance("5s");
    let verdicts: Vec<_> = t.handled("orders").iter().map(|handled| handled.verdict).collect();
    assert_eq!(verdicts, ["retry", "retry", "ack"]);
    t.queue("orders.dlq").assert_empty();
    t.stop();
}

struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_handler_whose_arguments_panic_when_they_are_dropped_fails() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |Json(order): Json<Order>| {
        let _mine = (order.id == 0).then(|| Mine);
    }));
    t.publish("", "orders", &Order { id: 0 });
    assert_panicked(&t, "the handler panicked: dropped");
    assert_goes_on(&t);
    t.stop();
}

struct Fussy;

impl<S> FromDelivery<S> for Fussy {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        assert!(incoming.body() != b"{\"id\":0}", "not this one");
        Ok(Self)
    }
}

#[test]
fn an_extractor_that_panics_fails() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |_: Fussy| {}));
    t.publish("", "orders", &Order { id: 0 });
    assert_panicked(&t, "the handler panicked: not this one");
    assert_goes_on(&t);
    t.stop();
}

#[test]
fn a_function_for_the_key_that_panics_fails_the_message_only() {
    let queue = Queue::new("orders").ordered_by(|message| {
        assert!(message.body() != b"{\"id\":0}", "no key");
        7
    });
    let t = test().start(App::new(()).route(queue, async || {}));
    t.publish("", "orders", &Order { id: 0 });
    assert_panicked(&t, "the function of `ordered_by` panicked: no key");
    assert_goes_on(&t);
    t.stop();
}

struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words")
    }
}

impl hopmq_app::Classify for Unspeakable {}

#[test]
fn an_error_that_panics_when_it_is_shown_fails() {
    let t =
        test().start(App::new(()).route(
            Queue::new("orders"),
            async |Json(order): Json<Order>| {
                if order.id == 0 { Err(Unspeakable) } else { Ok(()) }
            },
        ));
    t.publish("", "orders", &Order { id: 0 });
    assert_panicked(&t, "the handler panicked: no words");
    assert_goes_on(&t);
    t.stop();
}

#[test]
fn a_handler_that_never_ends_is_given_up_at_shutdown_and_its_message_goes_back() {
    let app = App::new(()).drain_timeout(Duration::from_secs(5));
    let t = test().open();
    let app = t.run(app.route(Queue::new("orders").prefetch(8), async || pending::<()>().await));
    for id in 0..3 {
        t.publish("", "orders", &Order { id });
    }
    let began = t.now();
    t.stop_app(app).expect("it ends");
    assert_eq!(t.now() - began, Duration::from_secs(5));
    t.queue("orders").assert_len(3);
    t.stop();
}

#[test]
fn a_stopped_app_gives_its_messages_back_while_its_connection_stays_open() {
    let t = test().open();
    let app = App::new(()).drain_timeout(Duration::from_secs(5));
    let app = t.run(app.route(Queue::new("orders").prefetch(8), async || pending::<()>().await));
    for id in 0..3 {
        t.publish("", "orders", &Order { id });
    }
    t.control(app).stop();
    t.advance("6s");
    assert_eq!(t.broker().expect("it is embedded").inspect().connections().len(), 2);
    t.queue("orders").assert_len(3);
    t.stop();
}

#[test]
fn a_handler_that_panics_when_it_is_given_up_ends_nothing_else() {
    let t = test().open();
    let app = App::new(()).drain_timeout(Duration::from_secs(5));
    let app = t.run(app.route(Queue::new("orders").concurrency(3), async || {
        let _mine = Mine;
        pending::<()>().await;
    }));
    for id in 0..3 {
        t.publish("", "orders", &Order { id });
    }
    t.stop_app(app).expect("it ends");
    t.queue("orders").assert_len(3);
    t.stop();
}

#[test]
fn messages_that_wait_for_their_next_attempt_in_the_slot_go_back_at_shutdown() {
    let t = test().open();
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::from_secs(60))).ordered_by(|_| 0);
    let app = t.run(App::new(()).route(queue, async || Retry::because("no")));
    t.publish("", "orders", &Order { id: 1 });
    t.publish("", "orders", &Order { id: 2 });
    let began = t.now();
    t.stop_app(app).expect("it ends");
    assert!(t.now() - began < Duration::from_secs(1));
    let left: Vec<Order> = t.queue("orders").assert_len(2).iter().map(|message| message.json()).collect();
    assert_eq!(left, [Order { id: 1 }, Order { id: 2 }]);
    t.stop();
}

#[test]
fn a_message_that_ends_the_process_each_time_is_parked() {
    let t = test().open();
    let calls = Rc::new(Cell::new(0));
    let app = || {
        let calls = Rc::clone(&calls);
        let queue = Queue::new("orders").quorum().delivery_limit(3);
        App::local(()).route(queue, move |Json(order): Json<Order>| {
            let calls = Rc::clone(&calls);
            async move {
                if order.id == 0 {
                    calls.set(calls.get() + 1);
                    pending::<()>().await;
                }
            }
        })
    };
    t.declare(Queue::new("orders").quorum());
    t.publish("", "orders", &Order { id: 0 });
    for _ in 0..3 {
        let running = t.run(app());
        t.kill(running);
    }
    t.run(app());
    assert_eq!(calls.get(), 3);
    let parked = t.queue("orders.parked").assert_len(1).remove(0);
    assert_eq!(parked.error_class(), Some("delivery-limit"));
    assert_eq!(parked.error(), Some("the message came back 3 times without an outcome of its handler"));
    assert_goes_on(&t);
    t.stop();
}

#[test]
fn a_message_that_ends_the_link_each_time_is_parked() {
    let t = test().open();
    let broker = t.broker().expect("it is embedded").clone();
    let queue = Queue::new("orders").quorum().delivery_limit(3);
    t.run(App::new(broker).route(
        queue,
        async |Json(order): Json<Order>, State(broker): State<Broker>, app: Context| {
            if order.id == 0 {
                let links = broker.inspect().connections();
                let link = links.iter().find(|link| link.name.as_deref() == Some("app 0")).map(|link| link.id);
                broker.faults().connection(link.expect("the app is connected")).cut();
                app.sleep(Duration::from_secs(1)).await;
            }
        },
    ));
    t.publish("", "orders", &Order { id: 0 });
    t.advance("5m");
    assert_eq!(t.handled("orders").len(), 3);
    let parked = t.queue("orders.parked").assert_len(1).remove(0);
    assert_eq!(parked.error_class(), Some("delivery-limit"));
    assert_goes_on(&t);
    t.stop();
}

pub(crate) fn app_link(t: &TestApp) -> u64 {
    let links = t.broker().expect("it is embedded").inspect().connections();
    links.iter().find(|link| link.name.as_deref() == Some("app 0")).expect("the app is connected").id
}

#[test]
fn a_handler_beyond_the_consumer_timeout_is_given_up_and_the_queue_is_served_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let t = test().broker(|broker| broker.consumer_timeout(Duration::from_secs(60))).start(
        App::new(()).drain_timeout(Duration::from_secs(5)).route(Queue::new("orders").quorum(), move || {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                if call == 0 {
                    pending::<()>().await;
                }
            }
        }),
    );
    t.publish("", "orders", &Order { id: 1 });
    t.publish("", "orders", &Order { id: 2 });
    assert_eq!(t.handled("orders").len(), 0);
    t.advance("5m");
    assert_eq!(t.handled("orders").len(), 2, "both are handled after the channel was closed");
    t.assert_idle();
    t.stop();
}

#[test]
fn a_handler_that_asks_for_a_wait_without_a_queue_for_it_waits_in_its_slot() {
    let backoff = Backoff::list([Duration::from_millis(5), Duration::from_millis(5)]);
    let t = test().start(App::new(()).route(Queue::new("orders").retry(backoff), async |Attempt(attempt): Attempt| {
        if attempt < 3 { Err(After) } else { Ok(Ack) }
    }));
    t.publish("", "orders", &Order { id: 1 });
    t.advance("19s");
    assert_eq!(t.handled("orders").len(), 2);
    t.advance("1s");
    assert_eq!(t.handled("orders").len(), 3);
    t.assert_idle();
    t.stop();
}

struct After;

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("later")
    }
}

impl hopmq_app::Classify for After {
    fn after(&self) -> Option<Duration> {
        Some(Duration::from_secs(10))
    }
}

#[test]
fn twenty_thousand_attempts_without_a_wait_do_not_overflow_the_stack() {
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(20_000));
    let t = test().start(App::new(()).route(queue, async |_: Text| Retry::because("no")));
    t.publish_raw("", "orders", &Properties::new(), "a pizza");
    assert_eq!(t.queue("orders.dlq").assert_len(1)[0].attempt(), 20_000);
    t.stop();
}
