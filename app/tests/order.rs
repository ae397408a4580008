//! Order per key over lost links: what the broker delivers again has its turn before later messages.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hopmq_app::test::TestApp;
use hopmq_app::{App, Context, Queue, State, Text};

/// The messages whose handler has ended, in their order.
type Done = Rc<RefCell<Vec<String>>>;

/// Takes a second for each message.
async fn slowly(Text(text): Text, State(done): State<Done>, app: Context) {
    app.sleep(Duration::from_secs(1)).await;
    done.borrow_mut().push(text);
}

/// Runs an app on a queue that has the messages 1, 2 and 3: the broker sends all three at once.
fn start(queue: Queue) -> (TestApp, Done) {
    let test = TestApp::builder().embedded().open();
    test.declare(queue.clone());
    publish(&test, &["1", "2", "3"]);
    let done = Done::default();
    test.run(App::local(Rc::clone(&done)).route(queue.ordered_by(|_| ()), slowly));
    (test, done)
}

/// Publishes messages, and lets the app take them as far as it can.
fn publish(test: &TestApp, messages: &[&str]) {
    for message in messages {
        let properties = hopmq::Properties::new().with_content_type("text/plain").with_persistent();
        test.publish_raw("", "q", &properties, *message);
    }
}

/// Returns the app's links, as far as the broker knows.
fn links(test: &TestApp) -> Vec<u64> {
    let links = test.broker().expect("it is embedded").inspect().connections();
    links.iter().filter(|link| link.name.as_deref() != Some("test")).map(|link| link.id).collect()
}

/// Returns the messages in the order in which each was done first.
fn first(done: &Done) -> Vec<String> {
    let mut seen = Vec::new();
    for message in done.borrow().iter() {
        if !seen.contains(message) {
            seen.push(message.clone());
        }
    }
    seen
}

#[test]
fn a_link_that_is_lost_after_its_consumer_was_cancelled_leaves_the_order() {
    let (test, done) = start(Queue::new("q"));
    publish(&test, &["4", "5"]);
    let broker = test.broker().expect("it is embedded");
    let consumer = broker.inspect().consumers().remove(0);
    broker.faults().cancel_consumer(&consumer.tag);
    test.advance("0s");
    broker.faults().connection(links(&test)[0]).cut();
    test.advance("1m");
    assert_eq!(first(&done), ["1", "2", "3", "4", "5"], "{done:?}");
    test.assert_idle();
    test.stop();
}

#[test]
fn a_single_active_consumer_keeps_the_order_though_the_broker_notices_a_lost_link_last() {
    let (test, done) = start(Queue::new("q").single_active_consumer().prefetch(3));
    // The ack of 1 is the last that arrives: the app has waited longer than the broker then.
    test.advance("1500ms");
    let broker = test.broker().expect("it is embedded");
    broker.faults().connection(links(&test)[0]).silence();
    publish(&test, &["4", "5"]);
    let has_two_links = || links(&test).len() == 2;
    assert!(test.until("10m", has_two_links), "the broker noticed the loss before the app did");
    test.advance("1h");
    assert_eq!(first(&done), ["1", "2", "3", "4", "5"], "{done:?}");
    test.assert_idle();
    test.stop();
}
