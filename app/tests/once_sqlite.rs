//! The store of what was done, and effects, in SQLite files that two members share.

use std::path::PathBuf;
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::{Connection, Properties, Time};
use hopmq_app::flow::Payload;
use hopmq_app::once::{Applied, Begun, Effect, MessageId, Seen, SqliteStore};
use hopmq_app::sqlite::Sqlite;
use hopmq_app::{App, Json, Queue};
use hopmq_broker::Broker;

struct File(PathBuf);

impl File {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("hopmq-{test}-{}.db", std::process::id())))
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.0).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

fn id(id: u32) -> MessageId {
    MessageId { queue: "q".into(), id: id.to_string() }
}

#[test]
fn two_programs_agree_on_what_is_done() {
    let file = File::new("agree");
    let day = Duration::from_secs(86_400);
    let [a, b] = [(), ()].map(|()| SqliteStore::new(&file.open(), day));
    let reply = Payload { body: "pong".into(), content_type: "text/plain".into(), ..Payload::default() };
    future::block_on(async {
        let begin = async |store: &SqliteStore| store.begin(&id(1), Time::ZERO).await.unwrap();
        assert_eq!((begin(&a).await, begin(&b).await), (Begun::Fresh, Begun::InWork));
        a.forget(&id(1)).await.unwrap();
        assert_eq!((begin(&b).await, begin(&a).await), (Begun::Fresh, Begun::InWork));
        b.complete(&id(1), Some(reply.clone()), Time::ZERO).await.unwrap();
        assert_eq!(begin(&a).await, Begun::Done(Some(reply)));
        // What is done is not forgotten by a worker that comes late.
        a.forget(&id(1)).await.unwrap();
        assert!(matches!(begin(&b).await, Begun::Done(_)));
    });
}

#[test]
fn what_is_in_work_for_too_long_or_old_is_fresh_again() {
    let file = File::new("lease");
    let dead = SqliteStore::new(&file.open(), Duration::from_secs(60));
    let other = SqliteStore::new(&file.open(), Duration::from_secs(60)).lease(Duration::ZERO);
    let short = SqliteStore::new(&file.open(), Duration::ZERO);
    future::block_on(async {
        assert_eq!(dead.begin(&id(1), Time::ZERO).await.unwrap(), Begun::Fresh);
        assert_eq!(other.begin(&id(1), Time::ZERO).await.unwrap(), Begun::Fresh);
        dead.complete(&id(2), None, Time::ZERO).await.unwrap();
        assert_eq!(other.begin(&id(2), Time::ZERO).await.unwrap(), Begun::Done(None));
        // Until the clock of the system has gone on by a millisecond.
        while short.begin(&id(2), Time::ZERO).await.unwrap() != Begun::Fresh {}
    });
}

#[test]
fn members_with_the_same_messages_apply_each_effect_once() {
    let file = File::new("effects");
    let broker = Broker::in_memory();
    let total = file.open();
    future::block_on(async {
        total.transaction(|tx| tx.execute_batch("CREATE TABLE stock (number INTEGER)")).await.unwrap();
        total.transaction(|tx| tx.execute("INSERT INTO stock VALUES (0)", [])).await.unwrap();
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.queue("q").durable().declare().await.unwrap();
        // Each message three times.
        for number in 0..60 {
            let properties = Properties::new().with_message_id(&format!("m{}", number % 20));
            channel.publish("", "q", "5").properties(&properties).confirm().await.unwrap();
        }
        let member = || {
            let add = async |Json(number): Json<u32>, effect: Effect| -> Result<Applied<()>, rusqlite::Error> {
                let work = move |tx: &rusqlite::Transaction<'_>| {
                    tx.execute("UPDATE stock SET number = number + ?1", [number]).map(drop)
                };
                effect.apply(work).await
            };
            App::new(file.open()).route(Queue::new("q").concurrency(4).prefetch(8), add)
        };
        let (a, b) = (member(), member());
        let controls = [a.control(), b.control()];
        let test = async {
            broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
            controls.iter().for_each(hopmq_app::Control::stop);
            future::pending().await
        };
        let both = async { future::try_zip(a.run(&connection), b.run(&connection)).await.map(drop) };
        both.or(test).await.unwrap();
        connection.close().await.unwrap();
        let sum: u32 =
            total.transaction(|tx| tx.query_row("SELECT number FROM stock", [], |row| row.get(0))).await.unwrap();
        assert_eq!(sum, 100, "twenty messages of five");
        let first = MessageId { queue: "q".into(), id: "m0".into() };
        let done = total.transaction(move |tx| Effect::done_at(tx, &first)).await.unwrap();
        assert!(done.is_some());
        let forgotten = total.transaction(|tx| Effect::forget_before(tx, i64::MAX)).await.unwrap();
        assert_eq!(forgotten, 20);
    });
    broker.assert_idle();
}
