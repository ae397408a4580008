//! A broker that refuses, stops, or goes away at each step of moving a message.

use std::time::Duration;

use hopmq_app::{App, Backoff, Json, Queue, Reject};
use hopmq_broker::{Confirms, Direction};

use crate::handlers::app_link;
use crate::{Order, test};

fn failing() -> App<()> {
    let queue = Queue::new("orders").quorum().retry(Backoff::fixed(Duration::from_secs(2)).attempts(2));
    App::new(())
        .route(queue, async |Json(order): Json<Order>| -> Result<(), String> { Err(format!("no order {}", order.id)) })
}

#[test]
fn a_message_stays_in_its_queue_while_the_broker_refuses_to_move_it() {
    let t = test().open();
    t.declare(Queue::new("full").argument("x-max-length", 1).argument("x-overflow", "reject-publish"));
    t.publish("", "full", &Order { id: 0 });
    let queue = Queue::new("orders").quorum().dead_letter(hopmq_app::DeadLetter::To("full".into()));
    let app = t.run(App::new(()).route(queue, async || Reject::because("no")));
    t.publish("", "orders", &Order { id: 1 });
    // Longer than any count of deliveries would allow.
    t.advance("25m");
    t.queue("full").assert_len(1);
    assert_eq!(t.handled("orders").len(), 1, "the handler is not called again while the message waits");
    let channel = t.channel();
    t.block_on(channel.queue_purge("full")).expect("it exists");
    t.advance("1m");
    assert_eq!(t.queue("full").assert_one::<Order>().0.id, 1);
    t.assert_idle();

    t.publish("", "orders", &Order { id: 2 });
    t.stop_app(app).expect("a message that can't be moved does not keep the app from ending");
    assert_eq!(t.queue("orders").assert_one::<Order>().0.id, 2);
    drop(channel);
    t.stop();
}

#[test]
fn a_forward_that_the_broker_nacks_is_repeated() {
    let t = test().start(failing());
    let broker = t.broker().expect("it is embedded");
    broker.faults().confirms(Confirms::Refused);
    t.publish("", "orders", &Order { id: 1 });
    t.advance("3s");
    t.heal();
    t.advance("1m");
    // The broker had kept what it refused.
    assert!(!t.queue("orders.dlq").messages().is_empty());
    t.assert_idle();
    t.stop();
}

/// Cuts the link after each number of frames in both directions, so that it dies at each step of a retry: before the
/// forward, between forward and confirm, between confirm and ack.
#[test]
fn a_link_that_dies_at_each_step_of_a_retry_loses_nothing() {
    for direction in [Direction::FromClient, Direction::ToClient] {
        for frames in 0..16 {
            let t = test().seed(frames).start(failing());
            t.broker().expect("it is embedded").faults().connection(app_link(&t)).cut_after(direction, frames);
            t.publish("", "orders", &Order { id: 1 });
            t.advance("2m");
            let dead = t.queue("orders.dlq").messages();
            assert!(!dead.is_empty(), "{direction:?} after {frames} frames: the order is lost");
            for message in &dead {
                assert_eq!((message.json::<Order>().id, message.attempt()), (1, 2));
                assert_eq!(message.error(), Some("no order 1"));
            }
            t.assert_idle();
            t.stop();
        }
    }
}

/// The app's process dies after each number of steps.
#[test]
fn a_process_that_dies_at_each_step_of_a_retry_loses_nothing() {
    for steps in 0..40 {
        let t = test().seed(steps).open();
        let first = t.run(failing());
        let channel = t.channel();
        t.block_on(async { channel.publish("", "orders", "{\"id\":1}").persistent().confirm().await })
            .expect("the broker takes it");
        t.steps(steps);
        t.kill(first);
        t.run(failing());
        t.advance("2m");
        let dead = t.queue("orders.dlq").messages();
        assert!(!dead.is_empty(), "after {steps} steps: the order is lost");
        assert!(dead.iter().all(|message| message.json::<Order>().id == 1 && message.attempt() == 2));
        t.assert_idle();
        drop(channel);
        t.stop();
    }
}

#[test]
fn a_channel_that_the_broker_closes_is_opened_again() {
    let t = test().start(failing());
    let broker = t.broker().expect("it is embedded");
    for id in 1..=6 {
        for number in broker.inspect().channels().iter().filter(|c| c.connection == app_link(&t)).map(|c| c.number) {
            broker.faults().connection(app_link(&t)).close_channel(number, 406, "PRECONDITION_FAILED - a test");
        }
        t.publish("", "orders", &Order { id });
        t.advance("1m");
    }
    assert!(t.queue("orders.dlq").messages().len() >= 6);
    t.assert_idle();
    t.stop();
}

#[test]
fn a_connection_that_an_operator_closes_comes_back() {
    let t = test().start(failing());
    t.broker().expect("it is embedded").faults().connection(app_link(&t)).close(320, "CONNECTION_FORCED - a test");
    t.publish("", "orders", &Order { id: 1 });
    t.advance("2m");
    t.queue("orders.dlq").assert_one::<Order>();
    t.stop();
}

#[test]
fn an_app_whose_broker_stays_away_ends_with_an_error() {
    let t = test().start(failing());
    let broker = t.broker().expect("it is embedded");
    broker.faults().refuse_logins(u32::MAX);
    broker.faults().connection(app_link(&t)).cut();
    t.advance("1m");
    // Logins that are refused for good end the connection, and the app with it.
    let error = t.ended(t.app()).expect("it ended").expect_err("by an error");
    assert!(error.contains("orders") || error.contains("403"), "{error}");
    broker.faults().refuse_logins(0);
}
