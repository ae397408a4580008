//! An outbox: an order is written to a database together with the message that tells of it, and what the message causes
//! happens exactly once, although the message comes twice.
//!
//! ```sh
//! cargo run --example outbox      # needs no broker: it starts one within the program
//! ```

use std::time::Duration;

use hopmq_app::once::{Applied, Effect};
use hopmq_app::outbox::{Outbox, Outgoing};
use hopmq_app::sqlite::Sqlite;
use hopmq_app::{App, Exchange, Queue, Text};
use hopmq_broker::Broker;
use smol::future::FutureExt;

const TABLES: &str = "
    CREATE TABLE stock (item TEXT PRIMARY KEY, number INTEGER CHECK (number >= 0));
    CREATE TABLE shipped (item TEXT);
    INSERT INTO stock VALUES ('pizza', 3);
";

/// Takes items out of the stock, and writes the message, both or none.
async fn sell(outbox: &Outbox, item: &'static str, number: i64) -> rusqlite::Result<()> {
    let sold = outbox.transaction(move |tx| {
        let message = Outgoing::new("shop", "order.new", item);
        let id = Outbox::add(tx, &message)?;
        tx.execute("UPDATE stock SET number = number - ?2 WHERE item = ?1", (item, number))?;
        Ok::<_, rusqlite::Error>(id)
    });
    let id = sold.await?;
    println!("sold       {number} {item}; the message is {id}");
    Ok(())
}

/// Ships an order. That it is done is written in the same transaction.
async fn ship(Text(item): Text, effect: Effect) -> Result<Applied<()>, rusqlite::Error> {
    let id = effect.id().id.clone();
    let work = {
        let item = item.clone();
        move |tx: &rusqlite::Transaction<'_>| tx.execute("INSERT INTO shipped VALUES (?1)", [item]).map(drop)
    };
    let applied = effect.apply(work).await?;
    match applied {
        Applied::Now(()) => println!("shipped    {item} of the message {id}"),
        Applied::Before => println!("skipped    the message {id}, which came before"),
    }
    Ok(applied)
}

async fn count(sqlite: &Sqlite, query: &'static str) -> rusqlite::Result<i64> {
    sqlite.transaction(move |tx| tx.query_row(query, [], |row| row.get(0))).await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    // A real shop names a file, and its handlers may be in another program with a database of its own.
    let sqlite = Sqlite::open(":memory:")?;
    let outbox = Outbox::new(&sqlite);
    smol::block_on(async {
        sqlite.transaction(|tx| tx.execute_batch(TABLES)).await?;
        sell(&outbox, "pizza", 1).await?;
        sell(&outbox, "pizza", 1).await?;
        // There is one left: neither the stock nor the outbox changes.
        if let Err(error) = sell(&outbox, "pizza", 2).await {
            println!("refused    2 pizza: {error}");
        }
        println!("the stock of pizza is {}", count(&sqlite, "SELECT number FROM stock").await?);

        // The messages wait in the database until an app relays them.
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let relay = outbox.clone();
        let app = App::new(sqlite.clone())
            .exchange(Exchange::topic("shop"))
            .route(Queue::subscribe("shop", "order.*").group("shipping"), ship)
            .route(Queue::subscribe("shop", "order.*"), async |message: hopmq::Message| {
                println!("published  {} as {}", message.text(), message.properties().message_id().unwrap_or("?"));
            })
            .beside(|context, control| relay.relay(context, control));
        let control = app.control();
        let scene = async {
            while count(&sqlite, "SELECT count(*) FROM shipped").await? < 2 {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
            // As if the program had ended after the broker's confirm, the first message is published again.
            let channel = connection.channel().await?;
            let query = "SELECT id FROM hopmq_seen ORDER BY at, rowid LIMIT 1";
            let id: String = sqlite.transaction(move |tx| tx.query_row(query, [], |row| row.get(0))).await?;
            channel.publish("shop", "order.new", "pizza").message_id(&id).mandatory().confirm().await?;
            broker.until(|inspect| inspect.ready("shop.shipping").is_empty() && inspect.unacked().is_empty()).await;
            control.stop();
            smol::future::pending::<Result<(), Box<dyn std::error::Error>>>().await
        };
        let run = async { Ok(app.run(&connection).await?) };
        run.or(scene).await?;
        connection.close().await?;
        println!("2 sold, {} shipped", count(&sqlite, "SELECT count(*) FROM shipped").await?);
        Ok(())
    })
}
