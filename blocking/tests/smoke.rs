//! What is specific to the blocking client, against a broker. The `tests` crate has the scenarios that all client APIs
//! share.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hopmq_blocking::{
    Acker, Builder, Channel, Confirm, Connection, Consumer, Delivery, ErrorKind, Event, Events, Exchange, Message,
    Next, Queue, Recovery, Result, Returned, Returns,
};

/// A limit that no passing test reaches, so that a test fails instead of hanging.
const SOON: Duration = Duration::from_secs(60);

fn connect() -> Result<Connection> {
    Connection::open(&url())
}

fn url() -> String {
    std::env::var("AMQP_URL").expect("AMQP_URL names the broker to test with: run `cargo xtask test`")
}

/// Declares a queue for one test.
fn queue(connection: &Connection) -> Result<Queue> {
    connection.channel()?.queue("").exclusive().declare()
}

#[test]
fn handles_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Builder>();
    shared::<Connection>();
    shared::<Channel>();
    shared::<Queue>();
    shared::<Exchange>();
    shared::<Consumer>();
    shared::<Delivery>();
    shared::<Acker>();
    shared::<Message>();
    shared::<Returned>();
    shared::<Returns>();
    shared::<Events>();
    shared::<Confirm>();
}

#[test]
fn threads_share_a_channel() -> Result<()> {
    const THREADS: usize = 4;
    const EACH: usize = 200;
    let connection = connect()?;
    let queue = queue(&connection)?;
    let mut consumer = queue.consume().prefetch(50).start()?;
    thread::scope(|scope| -> Result<()> {
        let publishers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let queue = queue.clone();
                scope.spawn(move || -> Result<()> {
                    for index in 0..EACH {
                        queue.publish(format!("{thread} {index}")).confirm()?;
                    }
                    Ok(())
                })
            })
            .collect();
        let acker =
            scope.spawn(|| consumer.by_ref().take(THREADS * EACH).try_for_each(|delivery| delivery?.ack().map(drop)));
        for thread in publishers.into_iter().chain([acker]) {
            thread.join().expect("the thread does not panic")?;
        }
        Ok(())
    })?;
    assert_eq!(connection.stats().confirmed, (THREADS * EACH) as u64);
    connection.close()
}

#[test]
fn message_ids_are_added_where_none_is_set() -> Result<()> {
    let connection = Connection::builder().uri(&url()).recovery(Recovery::new().message_ids()).open()?;
    let queue = queue(&connection)?;
    queue.publish("one").confirm()?;
    queue.publish("two").message_id("mine").confirm()?;
    queue.publish("three").confirm()?;
    let mut ids = Vec::new();
    while let Some(delivery) = queue.get()? {
        ids.push(delivery.properties().message_id().unwrap_or_default().to_owned());
        delivery.ack()?;
    }
    assert_eq!((ids.len(), &*ids[1]), (3, "mine"));
    assert!(ids[0].len() > 32 && ids[2].len() > 32 && ids[0] != ids[2], "{ids:?}");
    connection.close()
}

#[test]
fn heartbeats_flow_while_the_caller_is_busy() -> Result<()> {
    let connection = Connection::builder().uri(&url()).heartbeat(Duration::from_secs(2)).open()?;
    let queue = queue(&connection)?;
    // The broker drops a silent client after two intervals.
    let (_busy, work) = mpsc::channel::<()>();
    assert!(work.recv_timeout(Duration::from_secs(6)).is_err());
    queue.publish("still here").confirm()?;
    assert!(connection.stats().bytes_sent > 0 && connection.is_open());
    connection.close()
}

#[test]
fn heartbeats_flow_while_the_caller_leads_the_connection() -> Result<()> {
    let connection = Connection::builder().uri(&url()).heartbeat(Duration::from_secs(2)).open()?;
    let queue = queue(&connection)?;
    let mut idle = connection.channel()?.queue("").exclusive().declare()?.consume().start()?;
    let mut consumer = queue.consume().no_ack().start()?;
    let mut link = || -> Result<Option<u32>> {
        queue.publish("still here").confirm()?;
        Ok(consumer.next_within(SOON)?.item().map(|delivery| delivery.link()))
    };
    let first = link()?;
    // The broker drops a silent client after two intervals, and this thread is the one that must not be silent.
    assert!(matches!(idle.next_within(Duration::from_secs(6))?, Next::Nothing));
    assert_eq!((link()?, first.is_some()), (first, true), "the link was replaced");
    connection.close()
}

#[test]
fn dropping_the_last_handle_writes_accepted_messages() -> Result<()> {
    const MESSAGES: u32 = 5_000;
    let watcher = connect()?;
    let queue = watcher.channel()?.queue("").auto_delete().declare()?;
    let connection = connect()?;
    let channel = connection.channel()?;
    drop(connection);
    for _ in 0..MESSAGES {
        channel.publish("", queue.name(), &[7; 1000]).send()?;
    }
    drop(channel);
    // A passive declare may reply before the broker has queued all that it has read, so count deliveries instead.
    let mut consumer = queue.consume().no_ack().start()?;
    for taken in 0..MESSAGES {
        let next = consumer.next_within(SOON)?;
        assert!(matches!(next, Next::Item(_)), "{next:?} after {taken} messages");
    }
    watcher.close()
}

#[test]
fn a_delivery_keeps_the_connection_until_it_is_settled() -> Result<()> {
    let watcher = connect()?;
    let queue = watcher.channel()?.queue("").auto_delete().declare()?;
    queue.publish("kept").confirm()?;
    let connection = connect()?;
    let events = connection.events();
    let delivery = connection.channel()?.get(queue.name())?.expect("the message was confirmed");
    drop(connection);
    delivery.ack()?;
    assert!(matches!(events.last(), Some(Event::Closed { error }) if error.kind() == ErrorKind::Closed));
    assert_eq!(queue.delete().delete()?, 0);
    watcher.close()
}

#[test]
fn a_call_ends_by_its_deadline() -> Result<()> {
    let connection = connect()?;
    let queue = queue(&connection)?;
    let hurried = connection.within(Duration::ZERO);
    assert!(hurried.channel().is_err_and(|error| error.is_timeout()));
    // Only the call timed out: the channel that its reply opens is closed again.
    queue.publish("in time").confirm()?;
    let within = connection.within(SOON).channel()?;
    assert_eq!(within.queue(queue.name()).declare_passive()?.message_count(), 1);
    let mut confirm = within.publish("", queue.name(), "later").confirm_later()?;
    confirm.wait_timeout(SOON)?;
    confirm.wait_timeout(Duration::ZERO)?;
    confirm.wait()?;
    let mut returned = within.publish("", "no such queue", "lost").mandatory().confirm_later()?;
    for _ in 0..2 {
        assert_eq!(returned.wait_timeout(SOON).map_err(|error| error.kind()), Err(ErrorKind::Returned));
    }
    connection.close()
}

#[test]
fn an_iterator_ends_when_its_consumer_is_cancelled() -> Result<()> {
    let connection = connect()?;
    let queue = queue(&connection)?;
    for index in 0..10 {
        queue.publish(format!("{index}")).confirm()?;
    }
    let mut consumer = queue.consume().start()?;
    let first = consumer.next_within(SOON)?.item().expect("the message was confirmed");
    assert_eq!(first.text(), "0");
    consumer.cancel()?;
    let rest = consumer.by_ref().collect::<Result<Vec<_>>>()?;
    assert!(rest.last().is_none_or(|last| last.delivery_tag() == 1 + rest.len() as u64));
    assert!(consumer.next_within(Duration::ZERO)?.is_ended());
    assert!(consumer.next_now()?.is_ended());
    connection.close()
}

#[test]
fn an_iterator_reports_that_the_broker_cancelled_its_consumer() -> Result<()> {
    let connection = connect()?;
    let queue = queue(&connection)?;
    let mut consumer = queue.consume().start()?;
    assert!(matches!(consumer.next_now()?, Next::Nothing));
    assert!(matches!(consumer.next_within(Duration::from_millis(1))?, Next::Nothing));
    assert_eq!(consumer.iter_within(Duration::from_millis(1)).count(), 0);
    let waiting = thread::spawn(move || {
        let error = consumer.next().expect("the iterator yields the reason").expect_err("nothing was published");
        (error.kind(), consumer.next().is_none())
    });
    queue.delete().delete()?;
    assert_eq!(waiting.join().expect("the thread does not panic"), (ErrorKind::ConsumerCancelled, true));
    connection.close()
}

#[test]
fn closing_the_connection_ends_calls_waiting_in_other_threads() -> Result<()> {
    let connection = connect()?;
    let queue = queue(&connection)?;
    let mut consumer = queue.consume().start()?;
    let mut returns = connection.channel()?.returns();
    let events = connection.events();
    let waiting = thread::spawn(move || consumer.next().map(|next| next.map_err(|error| error.kind()).err()));
    assert!(matches!(returns.next_within(Duration::from_millis(1)), Next::Nothing));
    let reason = thread::spawn({
        let connection = connection.clone();
        move || connection.closed().kind()
    });
    assert!(connection.closed_within(Duration::from_millis(1)).is_none());
    connection.close()?;
    assert_eq!(waiting.join().expect("the thread does not panic"), Some(Some(ErrorKind::Closed)));
    assert_eq!(reason.join().expect("the thread does not panic"), ErrorKind::Closed);
    assert!(returns.next_now().is_ended());
    assert!(matches!(events.last(), Some(Event::Closed { .. })));
    assert!(!connection.is_open());
    Ok(())
}

#[test]
fn calls_work_on_the_threads_of_async_runtimes() -> Result<()> {
    let work = || {
        let connection = connect()?;
        let queue = queue(&connection)?;
        queue.publish("from within").confirm()?;
        assert_eq!(queue.get()?.expect("the message was confirmed").text(), "from within");
        connection.close()
    };
    futures_lite::future::block_on(async { work() })?;
    async_io::block_on(async { work() })
}
