//! Batches, breakers, and an outbox with exactly-once effects, on the embedded broker or the one of `HOPMQ_TEST_URL`.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Log, Site};
use futures_lite::future;
use hopmq::{Connection, Delivery};
use hopmq_app::{Ack, App, Backoff, Batch, BatchLimits, Breaker, Json, Queue, Reject, Retry, State, Text, Verdict};

/// Publishes numbers to the queue of a test, which is declared if it does not exist.
fn publish(site: &Site, messages: impl IntoIterator<Item = String>) {
    future::block_on(async {
        let connection = Connection::open(&site.uri).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.queue(&site.prefix).durable().quorum().declare().await.unwrap();
        for body in messages {
            channel.publish("", &site.prefix, body).persistent().mandatory().confirm().await.unwrap();
        }
        connection.close().await.unwrap();
    });
}

/// Takes all messages out of a queue.
fn drain(site: &Site, queue: &str) -> Vec<(String, String)> {
    future::block_on(async {
        let connection = Connection::open(&site.uri).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let mut all = Vec::new();
        let class = |delivery: &Delivery| {
            let class = delivery.header("x-hopmq-error-class");
            class.and_then(|class| class.as_str().map(str::to_owned)).unwrap_or_default()
        };
        while let Some(delivery) = channel.get(queue).await.unwrap() {
            all.push((delivery.text().into_owned(), class(&delivery)));
            delivery.ack().unwrap();
        }
        connection.close().await.unwrap();
        all
    })
}

fn clean(site: &Site) {
    site.clean(["", ".dlq", ".parked"].map(|end| format!("{}{end}", site.prefix)), []);
}

#[test]
fn batches_are_settled_one_by_one_where_they_differ() {
    let site = Site::new("batches");
    let log = Arc::<Log>::default();
    publish(&site, std::iter::once("no number".to_owned()).chain((0..1000).map(|number| number.to_string())));
    let handler = async |batch: Batch<Json<u64>>, State(log): State<Arc<Log>>| {
        batch.iter().for_each(|Json(number)| log.add("a", &number.to_string(), batch.len() as u64));
        let verdict = |number| match number % 100 {
            7 => Reject::because("seven").into(),
            13 => Retry::because("thirteen").into(),
            _ => Ack.into(),
        };
        batch.into_iter().map(|Json(number)| verdict(number)).collect::<Vec<Verdict>>()
    };
    let queue = Queue::new(&*site.prefix)
        .quorum()
        .concurrency(2)
        .batch(BatchLimits::of(100).within(Duration::from_millis(50)))
        .retry(Backoff::list([Duration::from_millis(5)]));
    let member = site.start(App::new(Arc::clone(&log)).route_batch(queue, handler));
    log.wait(|entries| entries.len() == 1000 + 10);
    member.stop();
    assert!(log.entries().iter().any(|entry| entry.part > 50), "most came in large batches");
    assert!(drain(&site, &site.prefix).is_empty(), "all are settled");
    let dead = drain(&site, &format!("{}.dlq", site.prefix));
    let of = |class: &str| dead.iter().filter(|(_, found)| found == class).count();
    assert_eq!((of("reject"), of("retry"), of("decode"), dead.len()), (10, 10, 1, 21));
    clean(&site);
}

#[test]
fn a_breaker_rests_and_probes() {
    let site = Site::new("breaker");
    let log = Arc::<Log>::default();
    publish(&site, (0..20).map(|number| number.to_string()));
    let down = Arc::new(AtomicBool::new(true));
    let failing = {
        let down = Arc::clone(&down);
        move |Text(text): Text, State(log): State<Arc<Log>>| {
            let fails = down.load(Ordering::Relaxed);
            log.add("a", &text, u64::from(fails));
            async move { if fails { Err("down") } else { Ok(()) } }
        }
    };
    let breaker = Breaker::after(3).pause(Duration::from_secs(1));
    let queue = Queue::new(&*site.prefix).quorum().breaker(breaker);
    let member = site.start(App::new(Arc::clone(&log)).route(queue, failing));
    // Three until it opens, and one probe that fails.
    log.wait(|entries| entries.len() == 4);
    down.store(false, Ordering::Relaxed);
    log.wait(|entries| entries.iter().filter(|entry| entry.part == 0).count() == 16);
    member.stop();
    assert_eq!(log.entries().len(), 20, "each message was handled once");
    assert_eq!(drain(&site, &format!("{}.dlq", site.prefix)).len(), 4);
    assert!(drain(&site, &site.prefix).is_empty());
    clean(&site);
}

#[cfg(feature = "sqlite")]
#[test]
fn an_outbox_and_effects_are_exactly_once_together() {
    use hopmq_app::once::{Applied, Effect};
    use hopmq_app::outbox::{Outbox, Outgoing};
    use hopmq_app::sqlite::Sqlite;

    let site = Site::new("outbox");
    publish(&site, []);
    let sqlite = Sqlite::open(":memory:").unwrap();
    let outbox = Outbox::new(&sqlite);
    let name = site.prefix.clone();
    future::block_on(async {
        sqlite.transaction(|tx| tx.execute_batch("CREATE TABLE numbers (number)")).await.unwrap();
        let written = outbox.transaction(move |tx| {
            (0..300)
                .try_for_each(|number| Outbox::add(tx, &Outgoing::new("", name.as_str(), number.to_string())).map(drop))
        });
        written.await.unwrap();
        let connection = Connection::open(&site.uri).await.unwrap();
        // Two relays publish some messages twice.
        let (first, second) = (outbox.clone(), outbox.clone());
        let write = async |Json(number): Json<u32>, effect: Effect| -> Result<Applied<()>, rusqlite::Error> {
            effect.apply(move |tx| tx.execute("INSERT INTO numbers VALUES (?1)", [number]).map(drop)).await
        };
        let app = App::new(sqlite.clone())
            .route(Queue::new(&*site.prefix).quorum().concurrency(8), write)
            .beside(|context, control| first.relay(context, control))
            .beside(|context, control| second.relay(context, control));
        let control = app.control();
        let count = async |query: &'static str| -> u32 {
            sqlite.transaction(move |tx| tx.query_row(query, [], |row| row.get(0))).await.unwrap()
        };
        let test = async {
            while count("SELECT count(*) FROM numbers").await < 300
                || count("SELECT count(*) FROM hopmq_outbox").await > 0
            {
                future::yield_now().await;
            }
            control.stop();
            future::pending().await
        };
        future::or(app.run(&connection), test).await.unwrap();
        assert_eq!(count("SELECT count(DISTINCT number) FROM numbers").await, 300);
        assert_eq!(count("SELECT count(*) FROM numbers").await, 300);
        connection.close().await.unwrap();
    });
    clean(&site);
}
