//! How a user's test inspects a broker and advances its clock.

use futures_lite::future::{block_on, zip};
use hopmq_broker::{Broker, Clock};

fn manual() -> Broker {
    Broker::builder().clock(&Clock::manual()).start()
}

#[test]
fn an_unacked_message_names_its_consumer() {
    let broker = Broker::in_memory();
    let connection = hopmq_blocking::Connection::open(&broker.uri()).unwrap();
    let channel = connection.channel().unwrap();
    let queue = channel.queue("orders").declare().unwrap();
    for order in ["pizza", "salad", "soup"] {
        queue.publish(order).header("table", 7).confirm().unwrap();
    }
    let mut consumer = queue.consume().prefetch(2).tag("kitchen").start().unwrap();
    let first = consumer.next().unwrap().unwrap();
    broker.settle();

    let inspector = broker.inspect();
    let ready: Vec<String> = inspector.ready("orders").iter().map(hopmq_broker::inspect::Message::text).collect();
    assert_eq!(ready, ["soup"]);
    let unacked = inspector.unacked();
    assert_eq!(unacked.iter().map(|held| held.message.text()).collect::<Vec<_>>(), ["pizza", "salad"]);
    assert_eq!(
        (unacked[0].consumer.as_deref(), unacked[0].delivery_tag, &*unacked[0].queue),
        (Some("kitchen"), 1, "orders")
    );
    assert_eq!(unacked[0].connection, inspector.connections()[0].id);
    assert_eq!(inspector.consumers()[0].unacked, 2);
    let counts = inspector.counts();
    assert_eq!((counts.connections, counts.queues, counts.consumers, counts.ready, counts.unacked), (1, 1, 1, 1, 2));
    assert!(inspector.channels().iter().all(|channel| channel.confirms && channel.unconfirmed == 0));

    first.ack().unwrap();
    broker
        .wait_until(|inspector| inspector.queue("orders").is_some_and(|queue| queue.ready == 0 && queue.unacked == 2));
    let leaked = std::panic::catch_unwind(|| broker.assert_idle()).unwrap_err();
    let text = leaked.downcast_ref::<String>().unwrap();
    assert!(text.contains("\"orders\" is unacked: delivery tag 2") && text.contains("consumer kitchen"), "{text}");
    connection.close().unwrap();
    broker.assert_idle();
}

#[test]
fn route_returns_the_queues_that_a_message_would_reach() {
    let broker = Broker::in_memory();
    let connection = hopmq_blocking::Connection::open(&broker.uri()).unwrap();
    let channel = connection.channel().unwrap();
    for name in ["all", "some"] {
        channel.queue(name).declare().unwrap();
    }
    channel.queue("all").declare().unwrap().bind("amq.topic", "#").unwrap();
    channel.queue("some").declare().unwrap().bind("amq.topic", "a.*").unwrap();
    let inspector = broker.inspect();
    assert_eq!(inspector.route("amq.topic", "a.b"), ["all", "some"]);
    assert_eq!(inspector.route("amq.topic", "b"), ["all"]);
    assert_eq!(inspector.route("", "some"), ["some"]);
    assert!(inspector.route("nothing", "a.b").is_empty() && inspector.vhost("other").route("", "some").is_empty());
    assert_eq!(inspector.bindings().len(), 2);
    assert_eq!(inspector.counts().ready, 0);
    connection.close().unwrap();
}

#[test]
fn timed_events_happen_on_time_however_far_the_clock_is_advanced() {
    let broker = manual();
    let connection = hopmq_blocking::Connection::open(&broker.uri()).unwrap();
    let channel = connection.channel().unwrap();
    let retry = channel.queue("retry").argument("x-message-ttl", 5_000).argument("x-dead-letter-exchange", "");
    retry.argument("x-dead-letter-routing-key", "later").declare().unwrap();
    channel.queue("later").argument("x-message-ttl", 3_000).declare().unwrap();
    channel.queue("unused").argument("x-expires", 1_800_000).declare().unwrap();
    let publish = |body: &str| channel.publish("", "retry", body).confirm().unwrap();
    publish("first");
    broker.advance("7s");
    let later = broker.inspect().ready("later");
    assert_eq!(later[0].time_to_live, Some(std::time::Duration::from_secs(1)));
    broker.advance("1s");
    assert!(broker.inspect().ready("later").is_empty());
    // Half an hour passes on the broker's clock in which the client, on its own clock, sends nothing.
    broker.advance("30m");
    assert!(broker.inspect().queue("unused").is_none());
    publish("second");
    assert!(connection.is_open());
    connection.close().unwrap();
    broker.assert_idle();
}

#[test]
fn settle_applies_all_frames_written_in_process() {
    for _ in 0..200 {
        let broker = Broker::in_memory();
        block_on(async {
            let builder = hopmq::Connection::builder();
            let (connection, driver) = builder.handshake(broker.connect(), hopmq::IoTimer::new()).await.unwrap();
            let work = async {
                let channel = connection.channel().await.unwrap();
                channel.queue("q").declare().await.unwrap();
                channel.publish("", "q", "x").send().await.unwrap();
                // The driver runs and writes.
                futures_lite::future::yield_now().await;
                broker.settle();
                assert_eq!(broker.inspect().queue("q").unwrap().ready, 1);
                connection.close().await.unwrap();
            };
            zip(driver, work).await;
        });
        broker.assert_idle();
    }
}

#[test]
fn a_thousand_brokers_run_in_one_process() {
    let brokers: Vec<Broker> = (0..1000).map(|_| Broker::in_memory()).collect();
    let connection = hopmq_blocking::Connection::open(&brokers[500].uri()).unwrap();
    connection.channel().unwrap().queue("here").declare().unwrap();
    let with_queue = brokers.iter().filter(|broker| broker.inspect().queue("here").is_some()).count();
    assert_eq!(with_queue, 1);
    connection.close().unwrap();
}
