//! `TestApp`: virtual time, assertions, several apps, local state.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hopmq_app::test::TestApp;
use hopmq_app::{App, Attempt, Backoff, Exchange, Json, Queue, Retry, State};

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

#[test]
fn a_local_app_has_state_that_is_not_send() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let app = App::local(Rc::clone(&seen)).route(
        Queue::new("local"),
        |State(seen): State<Rc<RefCell<Vec<(u32, u32)>>>>, Json(order): Json<Order>, Attempt(attempt): Attempt| async move {
            seen.borrow_mut().push((order.id, attempt));
        },
    );
    let t = TestApp::builder().embedded().start(app);
    t.publish("", "local", &Order { id: 1 });
    t.publish("", "local", &Order { id: 2 });
    assert_eq!(*seen.borrow(), [(1, 1), (2, 1)]);
    t.queue("local").assert_empty();
    t.stop();
}
