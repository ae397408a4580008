//! Durable queues and persistent messages survive a restart, in memory and on disk.

use futures_lite::future::{block_on, zip};
use hopmq::{Channel, Connection, FieldTable, IoTimer};
use hopmq_blocking::Recovery;
use hopmq_broker::CrashStorage;
use hopmq_broker::inspect::Message;
use hopmq_broker::store::{ErrorKind, MemoryStorage, Settings, Storage};
use hopmq_broker::{Broker, Builder};

/// Runs `work` on a channel of a new connection.
fn with<T>(broker: &Broker, work: impl AsyncFnOnce(&Channel) -> hopmq::Result<T>) -> T {
    block_on(async {
        let (connection, driver) = Connection::builder().handshake(broker.connect(), IoTimer::new()).await?;
        let work = async {
            let result = work(&connection.channel().await?).await?;
            connection.close().await?;
            Ok::<_, hopmq::Error>(result)
        };
        zip(driver, work).await.1
    })
    .unwrap()
}

async fn bodies(channel: &Channel, queue: &str) -> hopmq::Result<Vec<String>> {
    let mut bodies = Vec::new();
    while let Some(delivery) = channel.get_no_ack(queue).await? {
        bodies.push(String::from_utf8_lossy(delivery.body()).into_owned());
    }
    Ok(bodies)
}

async fn fill(channel: &Channel) -> hopmq::Result<()> {
    channel.exchange("orders").topic().durable().declare().await?;
    let queue = channel.queue("durable").durable().declare().await?;
    channel.queue("transient").declare().await?;
    queue.bind("orders", "order.*").await?;
    for body in ["1", "2", "3", "4"] {
        channel.publish("orders", "order.new", body).persistent().confirm().await?;
    }
    channel.publish("orders", "order.new", "only in memory").confirm().await?;
    let first = queue.get().await?.expect("the message was confirmed");
    let second = queue.get().await?.expect("the message was confirmed");
    first.ack()?;
    second.reject(true)?;
    // The reply shows that the broker has handled the ack and the reject.
    channel.queue("durable").declare_passive().await?;
    Ok(())
}

async fn check(channel: &Channel) -> hopmq::Result<()> {
    assert_eq!(channel.queue("durable").declare_passive().await?.message_count(), 3);
    channel.publish("orders", "order.new", "5").persistent().confirm().await?;
    let again = channel.get("durable").await?.expect("the message was not acked");
    assert_eq!((again.body(), again.redelivered()), (&b"2"[..], true));
    again.ack()?;
    assert_eq!(bodies(channel, "durable").await?, ["3", "4", "5"]);
    Ok(())
}

#[test]
fn durable_state_survives_a_restart_in_memory() {
    let storage = MemoryStorage::new();
    with(&Broker::builder().open(storage.clone()).unwrap(), fill);
    with(&Broker::builder().open(storage.clone()).unwrap(), check);
    let gone = |channel: &Channel| channel.queue("transient").declare_passive();
    let broker = Broker::builder().open(storage).unwrap();
    let error = with(&broker, async |channel| Ok(gone(channel).await.unwrap_err()));
    assert_eq!(error.code(), Some(404));
}

#[test]
#[cfg(feature = "disk")]
fn durable_state_survives_a_restart_on_disk() {
    let folder = std::env::temp_dir().join(format!("hopmq-durable-{}", std::process::id()));
    with(&Broker::open(&folder).unwrap(), fill);
    with(&Broker::open(&folder).unwrap(), check);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_restart_keeps_committed_messages_only() {
    let storage = MemoryStorage::new();
    with(&Builder::default().open(storage.clone()).unwrap(), async |channel| {
        channel.queue("q").durable().declare().await?;
        channel.tx_select().await?;
        channel.publish("", "q", "committed").persistent().send().await?;
        channel.tx_commit().await?;
        channel.publish("", "q", "pending").persistent().send().await?;
        Ok(())
    });
    let broker = Builder::default().open(storage).unwrap();
    assert_eq!(with(&broker, async |channel| bodies(channel, "q").await), ["committed"]);
}

#[test]
fn a_long_queue_keeps_its_order_with_most_bodies_only_in_the_store() {
    let storage = MemoryStorage::new();
    let broker = Builder::default().open(storage.clone()).unwrap();
    with(&broker, async |channel| {
        channel.queue("long").durable().declare().await?;
        let mut confirms = Vec::new();
        for number in 0..40_000_u32 {
            let body = number.to_string();
            confirms.push(channel.publish("", "long", body.as_str()).persistent().confirm_later().await?);
        }
        for confirm in confirms {
            confirm.await?;
        }
        Ok(())
    });
    drop(broker);
    let broker = Builder::default().open(storage).unwrap();
    with(&broker, async |channel| {
        let mut consumer = channel.consume("long").prefetch(500).start().await?;
        for number in 0..40_000_u32 {
            let delivery = futures_lite::StreamExt::next(&mut consumer).await.expect("the consumer is open")?;
            assert_eq!(delivery.body()[..], *number.to_string().as_bytes());
            delivery.ack()?;
        }
        Ok(())
    });
}

#[test]
fn clients_reconnect_to_a_crashed_broker_that_kept_confirmed_messages() {
    for seed in 0..20 {
        let disk = CrashStorage::new();
        let broker = Broker::builder().store(Settings::small()).open(disk.clone()).unwrap();
        broker.add_vhost("other");
        let connection = hopmq_blocking::Connection::open(&broker.uri()).unwrap();
        let channel = connection.channel().unwrap();
        let queue = channel.queue("durable").durable().declare().unwrap();
        let transient = channel.queue("transient").declare().unwrap();
        let confirms: Vec<_> = (0..50)
            .map(|number: u32| queue.publish(&number.to_le_bytes()).persistent().confirm_later().unwrap())
            .collect();
        queue.publish("in memory alone").confirm().unwrap();
        transient.publish("with its queue").persistent().confirm().unwrap();
        channel.get("durable").unwrap().expect("the message was confirmed").ack().unwrap();
        let _held = channel.get("durable").unwrap().expect("the message was confirmed");
        let before = broker.inspect().connections()[0].id;
        // Whatever the disk keeps: some of the publishes are not confirmed yet.
        broker.faults().crash(|| disk.power_cut(seed)).unwrap();
        confirms.into_iter().for_each(|confirm| confirm.wait().unwrap());
        broker.wait_until(|inspector| inspector.connections().iter().all(|connection| connection.id != before));

        let mut last = None;
        let mut found = 0;
        let mut as_new = 0;
        for message in broker.inspect().ready("durable") {
            let number = u32::from_le_bytes(message.body[..].try_into().unwrap());
            // Republished messages, whose confirm the client did not receive, come after the rest.
            assert!(last.is_none_or(|last| last < number) || !message.redelivered, "seed {seed}: {number}");
            last = Some(number);
            found += 1;
            as_new += u32::from(!message.redelivered);
        }
        assert!(found >= 49, "seed {seed}: {found}, {as_new} of them republished");
        assert!(
            broker.inspect().counts().vhosts == 2 && broker.inspect().queue("transient").is_none_or(|q| q.ready == 0)
        );
        connection.close().unwrap();
    }
}

#[test]
fn only_a_clean_shutdown_records_which_messages_were_delivered() {
    let storage = MemoryStorage::new();
    let broker = Broker::builder().open(storage.clone()).unwrap();
    with(&broker, async |channel| {
        let queue = channel.queue("q").durable().declare().await?;
        for body in ["held", "never delivered"] {
            queue.publish(body).persistent().confirm().await?;
        }
        let _held = queue.get().await?;
        Ok(())
    });
    let redelivered = |broker: &Broker| broker.inspect().ready("q").iter().map(|m| m.redelivered).collect::<Vec<_>>();
    drop(broker);
    let broker = Broker::builder().open(storage.clone()).unwrap();
    assert_eq!(redelivered(&broker), [true, false]);
    broker.faults().crash(|| storage.clone()).unwrap();
    assert_eq!(redelivered(&broker), [true, true]);
}

/// Otherwise a message that kills the broker, or the machine of the broker and its consumer, would do so for ever.
#[test]
fn deliveries_under_way_at_a_crash_count_towards_the_limit_of_a_quorum_queue() {
    let storage = MemoryStorage::new();
    let broker = Broker::builder().open(storage.clone()).unwrap();
    with(&broker, async |channel| {
        channel.queue("dead").durable().declare().await?;
        channel.queue("other").durable().declare().await?;
        let arguments = FieldTable::from([("x-queue-type", "quorum"), ("x-dead-letter-exchange", "")])
            .with("x-dead-letter-routing-key", "dead")
            .with("x-delivery-limit", 2);
        let queue = channel.queue("q").durable().arguments(&arguments).declare().await?;
        for body in ["poison", "never delivered"] {
            queue.publish(body).persistent().confirm().await?;
        }
        Ok(())
    });
    let ready = |queue| broker.inspect().ready(queue).iter().map(Message::text).collect::<Vec<_>>();
    for _ in 0..3 {
        assert_eq!(ready("q"), ["poison", "never delivered"]);
        let connection = hopmq_blocking::Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open();
        let channel = connection.unwrap().channel().unwrap();
        let delivery = channel.get("q").unwrap().unwrap();
        assert_eq!(delivery.body(), b"poison");
        // Once this is confirmed, the delivery is stored.
        channel.publish("", "other", "").persistent().confirm().unwrap();
        broker.faults().crash(|| storage.clone()).unwrap();
    }
    assert_eq!((ready("q"), ready("dead")), (vec!["never delivered".to_owned()], vec!["poison".to_owned()]));
}

#[test]
fn a_broker_that_crashed_on_a_damaged_disk_stays_down_until_it_has_a_good_one() {
    let disk = CrashStorage::new();
    let good = MemoryStorage::new();
    let broker = Broker::builder().store(Settings::small()).open(disk.clone()).unwrap();
    with(&broker, async |channel| channel.queue("q").durable().declare().await.map(drop));
    let damaged = || {
        let after = disk.power_cut(1);
        for name in after.list().unwrap() {
            after.flip(&name, 30, 0);
        }
        after
    };
    let error = broker.faults().crash(damaged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(broker.inspect().queue("q").is_none());
    broker.wait_until(|inspector| inspector.connections().is_empty());
    // A client that connects now waits.
    let waiting = std::thread::spawn({
        let broker = broker.clone();
        move || with(&broker, async |channel| channel.queue("q").declare().await.map(drop))
    });
    broker.wait_until(|inspector| !inspector.connections().is_empty());
    broker.faults().crash(|| good.clone()).unwrap();
    // The second crash has closed its connection.
    assert!(waiting.join().is_err());
    with(&broker, async |channel| channel.queue("r").durable().declare().await.map(drop));
}
