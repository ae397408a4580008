//! A topology that is not what the app expects, or does not stay so.

use std::time::Duration;

use hopmq::Properties;
use hopmq_app::{App, Backoff, DeadLetter, ErrorKind, Exchange, Existing, Json, Out, Queue, Reject, Retry};

use crate::{Order, test};

async fn fine(Json(_): Json<Order>) {}

fn refused(existing: Queue, queue: Queue) -> String {
    let t = test().open();
    t.declare(existing);
    let error = t.try_run(App::new(()).route(queue, fine)).expect_err("the queue exists with other settings");
    assert_eq!(error.kind(), ErrorKind::Differs);
    t.stop();
    error.to_string()
}

#[test]
fn a_queue_with_other_settings_is_refused_with_what_to_do() {
    let text = refused(Queue::new("orders").classic(), Queue::new("orders").quorum());
    for part in [
        "the queue 'orders' exists with other settings",
        "inequivalent arg 'x-queue-type'",
        "received 'quorum'",
        "current is 'classic'",
        "Existing::Adopt",
        "delete it, which loses its messages",
        "another name",
    ] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    let limited = |messages: i32| Queue::new("orders").argument("x-max-length", messages);
    let text = refused(limited(7), limited(8));
    assert!(text.contains("x-max-length") && text.contains("'8'") && text.contains("'7'"), "{text}");
}

#[test]
fn a_queue_with_other_settings_is_used_as_it_is_by_adopt() {
    let t = test().open();
    t.declare(Queue::new("orders").classic().argument("x-max-length", 7));
    t.run(App::new(()).route(Queue::new("orders").quorum().existing(Existing::Adopt), fine));
    t.publish("", "orders", &Order { id: 1 });
    assert_eq!(t.handled("orders").len(), 1);
    t.stop();
}

#[test]
fn a_queue_that_must_exist_is_not_declared() {
    let t = test().open();
    let queue = || Queue::new("orders").existing(Existing::Require);
    let error = t.try_run(App::new(()).route(queue(), fine)).expect_err("there is no such queue");
    assert_eq!(error.kind(), ErrorKind::Missing);
    let text = error.to_string();
    assert!(text.contains("the queue 'orders' does not exist") && text.contains("`Existing::Require`"), "{text}");
    t.declare(Queue::new("orders").argument("x-max-length", 7));
    t.run(App::new(()).route(queue(), fine));
    t.publish("", "orders", &Order { id: 1 });
    assert_eq!(t.handled("orders").len(), 1);
    t.stop();
}

#[test]
fn an_exchange_of_another_type_is_refused_with_what_to_do() {
    let t = test().open();
    t.declare_exchange(Exchange::direct("shop"));
    let app = App::new(()).exchange(Exchange::topic("shop")).route(Queue::new("orders").bind("shop", "order.*"), fine);
    let error = t.try_run(app).expect_err("the exchange is direct");
    assert_eq!(error.kind(), ErrorKind::Differs);
    let text = error.to_string();
    assert!(text.contains("the exchange 'shop' exists with other settings") && text.contains("'type'"), "{text}");
    t.stop();
}

#[test]
fn a_binding_to_an_exchange_that_does_not_exist_says_how_to_declare_it() {
    let t = test().open();
    let app = App::new(()).route(Queue::new("orders").bind("shop", "order.*"), fine);
    let error = t.try_run(app).expect_err("there is no such exchange");
    assert_eq!(error.kind(), ErrorKind::Missing);
    let text = error.to_string();
    assert!(text.contains("the exchange 'shop', which does not exist"), "{text}");
    assert!(text.contains(".exchange(Exchange::topic(\"shop\"))"), "{text}");
    t.stop();
}

#[test]
fn two_handlers_of_one_queue_are_refused() {
    let t = test().open();
    let app = App::new(()).route(Queue::new("orders"), fine).route(Queue::new("orders"), async || {});
    let error = t.try_run(app).expect_err("each would get a part of the messages");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "the queue 'orders' has two handlers; each would get a part of its messages");
    assert!(t.broker().expect("it is embedded").inspect().queues().is_empty(), "nothing was declared");
    t.stop();
}

#[test]
fn waits_in_the_slot_that_add_up_to_more_than_the_broker_allows_are_refused() {
    let t = test().open();
    let backoff = Backoff::fixed(Duration::from_secs(300)).attempts(10);
    let app = App::new(()).route(Queue::new("orders").ordered_by(|_| 1).retry(backoff), fine);
    let error = t.try_run(app).expect_err("45 minutes are too long");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("2700 s"), "{error}");
    t.stop();
}

#[test]
fn a_queue_that_is_deleted_is_declared_and_bound_again() {
    let app = App::new(()).exchange(Exchange::topic("shop")).route(Queue::new("orders").bind("shop", "order.*"), fine);
    let t = test().start(app);
    let channel = t.channel();
    for round in 1..=3 {
        t.block_on(channel.queue_delete("orders").delete()).expect("it exists");
        t.advance("5s");
        t.publish("shop", "order.new", &Order { id: round });
        assert_eq!(t.handled("orders").len(), round as usize);
    }
    drop(channel);
    t.stop();
}

#[test]
fn the_wait_before_a_lost_consumer_is_started_again_is_short_after_a_good_time() {
    let t = test().start(App::new(()).route(Queue::new("orders"), fine));
    let channel = t.channel();
    for round in 1..=12 {
        t.block_on(channel.queue_delete("orders").delete()).expect("it exists");
        t.advance("1s");
        t.publish("", "orders", &Order { id: round });
        assert_eq!(t.handled("orders").len(), round as usize);
        t.advance("1h");
    }
    drop(channel);
    t.stop();
}

#[test]
fn queues_for_retries_and_dead_letters_that_were_deleted_are_declared_again() {
    let backoff = Backoff::fixed(Duration::from_secs(2)).attempts(2);
    let t =
        test().start(App::new(()).route(Queue::new("orders").quorum().retry(backoff), async || Retry::because("no")));
    let channel = t.channel();
    t.block_on(async {
        channel.queue_delete("orders.retry.2000").delete().await?;
        channel.queue_delete("orders.dlq").delete().await
    })
    .expect("they exist");
    t.publish("", "orders", &Order { id: 1 });
    t.queue("orders.retry.2000").assert_len(1);
    t.advance("3s");
    let (order, message) = t.queue("orders.dlq").assert_one::<Order>();
    assert_eq!((order.id, message.attempt()), (1, 2));
    drop(channel);
    t.stop();
}

#[test]
fn without_dead_letter_queues_the_queues_own_dead_letter_exchange_takes_what_is_rejected() {
    let t = test().open();
    t.declare(Queue::new("old-dead"));
    let queue = Queue::new("orders")
        .dead_letter(DeadLetter::Reject)
        .argument("x-dead-letter-exchange", "")
        .argument("x-dead-letter-routing-key", "old-dead");
    t.run(App::new(()).route(queue, async || Reject::because("no")));
    t.publish("", "orders", &Order { id: 1 });
    t.queue("old-dead").assert_one::<Order>();
    t.stop();
}

#[test]
fn publishing_to_an_exchange_that_does_not_exist_fails_the_message_and_nothing_else() {
    let app = App::new(())
        .route(Queue::new("orders"), async |Json(order): Json<Order>, out: Out<Order>| {
            out.publish_to("nowhere", "key", &order).await
        })
        .route(Queue::new("others"), async |Json(order): Json<Order>, out: Out<Order>| {
            out.publish_to("", "done", &order).await
        });
    let t = test().open();
    t.declare(Queue::new("done"));
    t.run(app);
    t.publish("", "orders", &Order { id: 1 });
    t.publish("", "others", &Order { id: 2 });
    let dead = t.queue("orders.dlq").assert_len(1).remove(0);
    assert_eq!(dead.error_class(), Some("amqp"));
    let error = dead.error().unwrap_or_default();
    assert!(error.contains("404") && error.contains("nowhere"), "{error}");
    assert_eq!(t.queue("done").assert_one::<Order>().0.id, 2);
    t.stop();
}

#[test]
fn publishing_to_a_queue_that_does_not_exist_fails_the_message() {
    let app = App::new(()).route(Queue::new("orders"), async |Json(order): Json<Order>, out: Out<Order>| {
        out.publish_to("", "nowhere", &order).await
    });
    let t = test().start(app);
    t.publish_raw("", "orders", &Properties::new(), "{\"id\":1}");
    let dead = t.queue("orders.dlq").assert_len(1).remove(0);
    let error = dead.error().unwrap_or_default();
    assert!(error.contains("nowhere") && error.contains("NO_ROUTE"), "{error}");
    t.stop();
}
