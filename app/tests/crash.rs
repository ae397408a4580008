//! Programs that end at each step of an exactly-once effect and of an outbox: real processes, real SQLite files.
//!
//! This is a program without the test harness, because it starts itself again as the program that ends: with the step
//! in `HOPMQ_CRASH_STEP`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::{FutureExt, future};
use hopmq::Connection;
use hopmq_app::once::{Applied, Effect};
use hopmq_app::outbox::{Outbox, Outgoing};
use hopmq_app::sqlite::Sqlite;
use hopmq_app::{App, FromRef, Queue, State, Text};
use hopmq_broker::Broker;

const STEP: &str = "HOPMQ_CRASH_STEP";
const FILE: &str = "HOPMQ_CRASH_FILE";
const URI: &str = "HOPMQ_CRASH_URI";

fn main() {
    match std::env::var(STEP) {
        Ok(step) => child(&step),
        Err(_) => parent(),
    }
}

#[derive(Clone)]
struct Shop {
    sqlite: Sqlite,
    step: String,
    deliveries: Arc<AtomicUsize>,
}

impl FromRef<Shop> for Sqlite {
    fn from_ref(shop: &Shop) -> Self {
        shop.sqlite.clone()
    }
}

impl Shop {
    fn open(file: &Path, step: &str) -> Self {
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS shipped (item TEXT)").unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS ordered (item TEXT)").unwrap();
        let sqlite = Sqlite::from_connection(connection).unwrap();
        Self { sqlite, step: step.to_owned(), deliveries: Arc::default() }
    }

    async fn count(&self, table: &'static str) -> usize {
        let query = move |tx: &rusqlite::Transaction<'_>| {
            tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        };
        self.sqlite.transaction(query).await.unwrap()
    }
}

/// A handler whose effect must happen exactly once.
async fn ship(Text(item): Text, effect: Effect, State(shop): State<Shop>) -> Result<Applied<()>, rusqlite::Error> {
    shop.deliveries.fetch_add(1, Ordering::Relaxed);
    let step = shop.step.clone();
    let applied = effect.apply(move |tx| {
        tx.execute("INSERT INTO shipped VALUES (?1)", [item])?;
        if step == "effect: in its transaction" {
            std::process::abort();
        }
        if step == "effect: while it is committed" {
            tx.commit_hook(Some(|| std::process::abort()));
        }
        if step == "effect: rolled back" {
            return Err(rusqlite::Error::InvalidQuery);
        }
        Ok(())
    });
    let applied = applied.await;
    if shop.step.starts_with("effect") {
        // Committed or rolled back, and not acknowledged yet.
        std::process::abort();
    }
    applied
}

/// Writes an order and its message, and relays it.
async fn order(shop: &Shop, connection: &Connection) {
    let outbox = Outbox::new(&shop.sqlite);
    let step = shop.step.clone();
    let written = outbox.transaction(move |tx| {
        tx.execute("INSERT INTO ordered VALUES ('pizza')", [])?;
        Outbox::add(tx, &Outgoing::new("", "q", "pizza"))?;
        if step == "outbox: while the order is committed" {
            tx.commit_hook(Some(|| std::process::abort()));
        }
        Ok::<_, rusqlite::Error>(())
    });
    written.await.unwrap();
    if shop.step == "outbox: after the order is committed" {
        std::process::abort();
    }
    let step = shop.step.clone();
    let hook = move |tx: &rusqlite::Transaction<'_>| {
        if step == "outbox: after the confirm" {
            tx.update_hook(Some(|_: rusqlite::hooks::Action, _: &str, table: &str, _: i64| {
                if table == "hopmq_outbox" {
                    std::process::abort();
                }
            }));
        }
        Ok::<_, rusqlite::Error>(())
    };
    shop.sqlite.transaction(hook).await.unwrap();
    let relay = outbox.clone();
    App::new(()).beside(|context, control| relay.relay(context, control)).run(connection).await.unwrap();
}

/// The program that ends at a step.
fn child(step: &str) {
    let (file, uri) = (std::env::var(FILE).unwrap(), std::env::var(URI).unwrap());
    let shop = Shop::open(Path::new(&file), step);
    future::block_on(async {
        let connection = Connection::open(&uri).await.unwrap();
        if step.starts_with("effect") {
            App::new(shop).route(Queue::new("q"), ship).run(&connection).await.unwrap();
        } else {
            order(&shop, &connection).await;
        }
    });
}

/// Runs a child that ends at a step, then a program that works, and returns how many orders and shipments there are,
/// and how many messages came for them.
fn crash_at(step: &str, folder: &Path) -> (usize, usize, usize) {
    println!("a program ends, {step}");
    let file = folder.join(format!("{}.db", step.replace([' ', ':'], "-")));
    let broker = Broker::in_memory();
    let uri = broker.uri();
    let shop = Shop::open(&file, "");
    future::block_on(async {
        let connection = Connection::open(&uri).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.queue("q").durable().declare().await.unwrap();
        if step.starts_with("effect") {
            let properties = hopmq::Properties::new().with_message_id("1");
            channel.publish("", "q", "pizza").properties(&properties).confirm().await.unwrap();
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.env(STEP, step).env(FILE, &file).env(URI, &uri).stderr(Stdio::null());
        let status = child.status().unwrap();
        assert!(!status.success() && status.code().is_none(), "the child did not abort: {status}");
        // The broker learns of it.
        broker.until(|inspect| inspect.connections().len() == 1 && inspect.unacked().is_empty()).await;

        let relay = Outbox::new(&shop.sqlite);
        let app = App::new(shop.clone())
            .route(Queue::new("q"), ship)
            .beside(|context, control| relay.relay(context, control));
        let control = app.control();
        let test = async {
            loop {
                let left = shop.count("hopmq_outbox").await;
                broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
                // What was relayed before the outbox was read is in the queue by then.
                if left == 0 && broker.inspect().ready("q").is_empty() && broker.inspect().unacked().is_empty() {
                    break;
                }
            }
            control.stop();
            future::pending().await
        };
        app.run(&connection).or(test).await.unwrap();
        let counts = (shop.count("ordered").await, shop.count("shipped").await);
        connection.close().await.unwrap();
        broker.assert_idle();
        (counts.0, counts.1, shop.deliveries.load(Ordering::Relaxed))
    })
}

fn parent() {
    let folder: PathBuf = std::env::temp_dir().join(format!("hopmq-crash-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // The effect happens exactly once, whenever the program ends.
    for step in [
        "effect: in its transaction",
        "effect: while it is committed",
        "effect: rolled back",
        "effect: before the acknowledgement",
    ] {
        assert_eq!(crash_at(step, &folder), (0, 1, 1), "{step}");
    }
    // Without the order there is no message; with it, there is one at least, which has its effect once.
    assert_eq!(crash_at("outbox: while the order is committed", &folder), (0, 0, 0));
    assert_eq!(crash_at("outbox: after the order is committed", &folder), (1, 1, 1));
    assert_eq!(crash_at("outbox: after the confirm", &folder), (1, 1, 2));
    std::fs::remove_dir_all(&folder).unwrap();
    println!("nothing was lost or done twice");
}
