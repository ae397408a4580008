//! The outbox and its relay on the embedded broker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::{Connection, Properties};
use hopmq_app::outbox::{Outbox, Outgoing};
use hopmq_app::sqlite::Sqlite;
use hopmq_app::{App, Context, Control, Error};
use hopmq_broker::Broker;

async fn left(sqlite: &Sqlite) -> usize {
    let query =
        |tx: &rusqlite::Transaction<'_>| tx.query_row("SELECT count(*) FROM hopmq_outbox", [], |row| row.get(0));
    sqlite.transaction(query).await.unwrap()
}

fn relay(outbox: &Outbox) -> impl FnOnce(Context, Control) -> future::Boxed<Result<(), Error>> + use<> {
    let outbox = outbox.clone();
    |context, control| Box::pin(outbox.relay(context, control))
}

/// Runs the relay of an outbox until `test` is done.
async fn with(broker: &Broker, outbox: &Outbox, test: impl AsyncFnOnce(&Connection)) {
    let connection = Connection::open(&broker.uri()).await.unwrap();
    let app = App::new(()).beside(relay(outbox));
    let control = app.control();
    let test = async {
        test(&connection).await;
        control.stop();
        future::pending().await
    };
    app.run(&connection).or(test).await.unwrap();
    connection.close().await.unwrap();
    broker.assert_idle();
}

/// Waits until the relay has noted what it published.
async fn until_empty(sqlite: &Sqlite, broker: &Broker, messages: usize) {
    broker.until(|inspect| inspect.ready("q").len() == messages).await;
    while left(sqlite).await > 0 {
        future::yield_now().await;
    }
}

#[test]
fn messages_are_published_in_order_with_their_properties_and_an_id() {
    let broker = Broker::in_memory();
    let sqlite = Sqlite::open(":memory:").unwrap();
    let outbox = Outbox::new(&sqlite);
    let ids: Vec<String> = future::block_on(async {
        let mut ids = Vec::new();
        let setup = Connection::open(&broker.uri()).await.unwrap();
        setup.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        setup.close().await.unwrap();
        with(&broker, &outbox, async |_| {
            for number in 0..250 {
                let written = outbox.transaction(move |tx| {
                    let properties = Properties::new().with_content_type("text/plain").with_header("n", number);
                    let message = Outgoing::new("", "q", number.to_string());
                    Outbox::add(tx, &if number == 0 { message.properties(properties) } else { message })
                });
                ids.push(written.await.unwrap());
            }
            until_empty(&sqlite, &broker, 250).await;
        })
        .await;
        ids
    });
    let messages = broker.inspect().ready("q");
    let bodies: Vec<_> = messages.iter().map(hopmq_broker::inspect::Message::text).collect();
    assert_eq!(bodies, (0..250).map(|number| number.to_string()).collect::<Vec<_>>());
    let first = &messages[0].properties;
    assert_eq!((first.content_type(), first.message_id()), (Some("text/plain"), Some(&*ids[0])));
    assert!(messages[1].properties.is_persistent());
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 250);
}

#[test]
fn a_transaction_that_is_rolled_back_publishes_nothing() {
    let broker = Broker::in_memory();
    let sqlite = Sqlite::open(":memory:").unwrap();
    let outbox = Outbox::new(&sqlite);
    future::block_on(async {
        let failed = outbox.transaction(|tx| {
            Outbox::add(tx, &Outgoing::new("", "q", "never"))?;
            Err::<(), _>(rusqlite::Error::InvalidQuery)
        });
        assert!(failed.await.is_err());
        assert_eq!(left(&sqlite).await, 0);
        let long = Outgoing::new("", "q", "").properties(Properties::new().with_kind(&"x".repeat(300)));
        let error = outbox.transaction(move |tx| Outbox::add(tx, &long)).await.unwrap_err();
        assert!(error.to_string().contains("255"), "{error}");
    });
    drop(broker);
}

#[test]
fn a_message_that_is_refused_waits_and_holds_up_no_other() {
    let broker = Broker::in_memory();
    let sqlite = Sqlite::open(":memory:").unwrap();
    let outbox = Outbox::new(&sqlite).poll_every(Duration::from_millis(20));
    future::block_on(async {
        with(&broker, &outbox, async |connection| {
            let channel = connection.channel().await.unwrap();
            channel.queue("q").durable().declare().await.unwrap();
            let written = outbox.transaction(|tx| {
                Outbox::add(tx, &Outgoing::new("", "q", "1"))?;
                Outbox::add(tx, &Outgoing::new("", "no such queue", "2"))?;
                Outbox::add(tx, &Outgoing::new("no such exchange", "key", "3"))?;
                Outbox::add(tx, &Outgoing::new("", "q", "4"))
            });
            written.await.unwrap();
            let mut refused = Vec::new();
            while refused.len() < 2 {
                refused = outbox.refused().await.unwrap();
            }
            assert!(refused[0].error.contains("NO_ROUTE") && refused[1].error.contains("NOT_FOUND"), "{refused:?}");
            // The first one may have been published again, with its id, after the broker closed the channel.
            broker.until(|inspect| inspect.ready("q").iter().any(|message| message.text() == "4")).await;
            // With the cause removed, they follow.
            channel.queue("no such queue").durable().declare().await.unwrap();
            broker.until(|inspect| inspect.ready("no such queue").len() == 1).await;
            while left(&sqlite).await > 1 {
                future::yield_now().await;
            }
        })
        .await;
    });
    let ready = broker.inspect().ready("q");
    let ids: std::collections::BTreeSet<_> = ready.iter().map(|message| message.properties.message_id()).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_stop_leaves_what_is_not_published_in_the_outbox() {
    let broker = Broker::in_memory();
    let sqlite = Sqlite::open(":memory:").unwrap();
    let outbox = Outbox::new(&sqlite);
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        outbox.transaction(|tx| Outbox::add(tx, &Outgoing::new("", "q", "later"))).await.unwrap();
        let app = App::new(()).beside(relay(&outbox));
        app.control().stop();
        app.run(&connection).await.unwrap();
        connection.close().await.unwrap();
        assert_eq!(left(&sqlite).await, 1);
    });
    broker.assert_idle();
}

#[test]
fn what_runs_beside_ends_the_app_with_its_error() {
    let broker = Broker::in_memory();
    let log = Arc::<Mutex<Vec<&str>>>::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let failing =
            |_: Context, _: Control| async { Err(hopmq::Error::new(hopmq::ErrorKind::Usage, "no key").into()) };
        let noting = Arc::clone(&log);
        let app = App::local(()).beside(failing).beside(move |_, control| async move {
            control.stopped().await;
            noting.lock().unwrap().push("the other one ended in order");
            Ok(())
        });
        let error = app.run(&connection).await.unwrap_err();
        assert!(error.to_string().contains("no key"), "{error}");
        connection.close().await.unwrap();
    });
    assert_eq!(log.lock().unwrap().len(), 1);
}
