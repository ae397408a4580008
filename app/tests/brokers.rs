//! The same tests on the embedded broker and, with `HOPMQ_TEST_URL`, on a RabbitMQ.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hopmq::{FieldTable, Properties};
use hopmq_app::test::TestApp;
use hopmq_app::{
    App, Attempt, Backoff, ErrorKind, Exchange, Existing, Json, Out, Queue, Reject, Retry, State, Verdict,
};

#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
    customer: u32,
}

fn order(id: u32) -> Order {
    Order { id, customer: 0 }
}

async fn fine(Json(_): Json<Order>) {}

#[test]
fn a_message_climbs_the_ladder_of_retries_to_the_dead_letters() {
    for (name, queue) in [("ladder.q", Queue::new("ladder.q").quorum()), ("ladder.c", Queue::new("ladder.c"))] {
        let exchange = format!("{name}.shop");
        let queue = queue.bind(&exchange, "order.*");
        let queue = queue.retry(Backoff::list([Duration::from_secs(1), Duration::from_secs(2)]));
        let app = App::new(()).exchange(Exchange::topic(&exchange));
        let t = TestApp::start(
            app.route(queue, async |Json(order): Json<Order>| Retry::because(format!("no order {}", order.id))),
        );
        t.publish(&exchange, "order.new", &order(13));
        t.queue(&format!("{name}.retry.1000")).assert_len(1);
        assert!(t.until("20s", || t.handled(name).len() == 3), "{:?}", t.handled(name));
        let (dead, message) = t.queue(&format!("{name}.dlq")).assert_one::<Order>();
        assert_eq!((dead, message.attempt()), (order(13), 3));
        assert_eq!((message.error_class(), message.error()), (Some("retry"), Some("no order 13")));
        assert_eq!(message.origin(), (&*exchange, "order.new"));
        let attempts: Vec<_> = t.handled(name).iter().map(|handled| handled.attempt).collect();
        assert_eq!(attempts, [1, 2, 3]);
        t.assert_idle();
        t.stop();
    }
}

#[test]
fn what_cannot_be_handled_lies_with_its_reason() {
    async fn on_order(Json(order): Json<Order>) -> Verdict {
        match order.id {
            1 => Reject::because("no such shop").into(),
            2 => hopmq_app::Park::because("look at it").into(),
            _ => panic!("what is order {}?", order.id),
        }
    }
    let t = TestApp::start(App::new(()).route(Queue::new("reasons").quorum(), on_order));
    (1..=3).for_each(|id| t.publish("", "reasons", &order(id)));
    t.publish_raw("", "reasons", &Properties::new(), "no JSON");
    let dead = t.queue("reasons.dlq").assert_len(3);
    let classes: Vec<_> = dead.iter().map(|message| message.error_class().unwrap_or_default()).collect();
    assert_eq!(classes, ["reject", "panic", "decode"]);
    let (parked, message) = t.queue("reasons.parked").assert_one::<Order>();
    assert_eq!((parked.id, message.error()), (2, Some("look at it")));
    t.assert_idle();
    t.stop();
}

#[test]
fn messages_with_a_key_are_handled_in_order_although_some_fail() {
    type Seen = Arc<Mutex<Vec<Order>>>;
    let seen = Seen::default();
    async fn on_order(
        Json(order): Json<Order>,
        Attempt(attempt): Attempt,
        State(seen): State<Seen>,
    ) -> Result<(), String> {
        if order.id.is_multiple_of(5) && attempt < 3 {
            return Err("not yet".to_owned());
        }
        seen.lock().unwrap().push(order);
        Ok(())
    }
    let queue = Queue::new("ordered").quorum().concurrency(4).prefetch(50);
    let queue = queue.ordered_by(|message| message.header("customer").and_then(|value| value.as_i64()));
    let queue = queue.retry(Backoff::fixed(Duration::from_millis(50)).attempts(3));
    let t = TestApp::start(App::new(Arc::clone(&seen)).route(queue, on_order));
    for id in 0..40 {
        let order = Order { id, customer: id % 3 };
        let properties = Properties::new().with_header("customer", i64::from(order.customer));
        t.publish_raw("", "ordered", &properties, serde_json::to_vec(&order).unwrap());
    }
    assert!(t.until("20s", || seen.lock().unwrap().len() == 40));
    for customer in 0..3 {
        let ids: Vec<_> =
            seen.lock().unwrap().iter().filter(|order| order.customer == customer).map(|o| o.id).collect();
        assert!(ids.is_sorted(), "customer {customer}: {ids:?}");
    }
    t.assert_idle();
    t.stop();
}

#[test]
fn a_queue_with_other_settings_is_refused_adopted_or_required() {
    let t = TestApp::builder().open();
    t.declare(Queue::new("exists").classic().argument("x-max-length", 70));
    let other = || Queue::new("exists").classic().argument("x-max-length", 80);
    let error = t.try_run(App::new(()).route(other(), fine)).expect_err("it has other settings");
    assert_eq!(error.kind(), ErrorKind::Differs);
    let text = error.to_string();
    for part in ["the queue 'exists' exists with other settings", "x-max-length", "Existing::Adopt"] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    let app = t.run(App::new(()).route(other().existing(Existing::Adopt), fine));
    t.publish("", "exists", &order(1));
    assert!(t.until("10s", || t.handled("exists").len() == 1));
    t.stop_app(app).expect("it runs");
    let missing = Queue::new("exists.not").existing(Existing::Require);
    let error = t.try_run(App::new(()).route(missing, fine)).expect_err("it does not exist");
    assert_eq!(error.kind(), ErrorKind::Missing);
    t.run(App::new(()).route(other().existing(Existing::Require), fine));
    t.publish("", "exists", &order(2));
    assert!(t.until("10s", || t.handled("exists").len() == 2));
    t.stop();
}

#[test]
fn what_a_handler_publishes_is_seen_by_a_tap() {
    let t = TestApp::builder().open();
    t.declare_exchange(Exchange::topic("tap.shop"));
    let receipts = t.tap("tap.shop", "receipt.#");
    t.run(App::new(()).route(Queue::new("tap"), async |Json(order): Json<Order>, out: Out<Order>| {
        out.publish_to("tap.shop", "receipt.new", &order).await
    }));
    t.publish("", "tap", &order(7));
    let (receipt, message) = receipts.assert_one::<Order>();
    assert_eq!((receipt, message.routing_key()), (order(7), "receipt.new"));
    t.stop();
}

/// RabbitMQ adds headers to a message that expires, and can't split a header over frames.
#[test]
fn a_message_whose_headers_fill_a_frame_survives_its_retries() {
    let headers = |size: usize| FieldTable::from_iter([("keep", "small"), ("big", &"y".repeat(size))]);
    let properties = |size| Properties::new().with_headers(&headers(size));
    // A frame has 8 bytes around its payload, and a content header 14 before the list.
    let properties = properties(131_072 - 8 - 14 - 10 - properties(0).as_bytes().len());
    let queue = Queue::new("full").quorum().retry(Backoff::fixed(Duration::from_secs(1)).attempts(3));
    let t = TestApp::start(App::new(()).route(queue, async || Retry::because("no ".repeat(2000))));
    t.publish_raw("", "full", &properties, "a pizza");
    assert!(t.until("20s", || t.handled("full").len() == 3), "{:?}", t.handled("full"));
    let dead = t.queue("full.dlq").assert_len(1).remove(0);
    assert_eq!((dead.attempt(), dead.body()), (3, &b"a pizza"[..]));
    assert_eq!(dead.header("keep").and_then(|value| value.as_str()), Some("small"));
    t.stop();
}

#[test]
fn a_message_that_ends_the_process_each_time_is_parked() {
    let t = TestApp::builder().open();
    let app = || {
        let queue = Queue::new("poison").quorum().delivery_limit(3);
        App::new(()).route(queue, async |Json(order): Json<Order>| {
            if order.id == 0 {
                std::future::pending::<()>().await;
            }
        })
    };
    t.declare(Queue::new("poison").quorum());
    t.publish("", "poison", &order(0));
    for _ in 0..3 {
        let running = t.run(app());
        assert!(t.until("10s", || t.at_work() == 1));
        t.kill(running);
        assert!(t.until("10s", || t.at_work() == 0));
    }
    t.run(app());
    let (parked, message) = t.queue("poison.parked").assert_one::<Order>();
    assert_eq!((parked.id, message.error_class()), (0, Some("delivery-limit")));
    t.publish("", "poison", &order(1));
    assert!(t.until("10s", || t.handled("poison").iter().any(|handled| handled.verdict == "ack")));
    t.stop();
}

#[test]
fn a_queue_that_is_deleted_is_declared_and_bound_again() {
    let app = App::new(()).exchange(Exchange::topic("again.shop"));
    let t = TestApp::start(app.route(Queue::new("again").bind("again.shop", "order.*"), fine));
    let channel = t.channel();
    t.block_on(channel.queue_delete("again").delete()).expect("it exists");
    t.advance("2s");
    t.publish("again.shop", "order.new", &order(1));
    assert!(t.until("10s", || t.handled("again").len() == 1));
    drop(channel);
    t.stop();
}
