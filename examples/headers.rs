//! Message headers: setting them, and reading them with their types.
//!
//! ```sh
//! cargo run --example headers
//! ```
//!
//! A header is a name with a value: a string, a number, a boolean, a time, a table, …

use hopmq::{Delivery, FieldTable};
use smol::stream::StreamExt;

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let queue = channel.queue("").exclusive().declare().await?;

        // One header at a time, or a table that was made before.
        queue.publish("a pizza").header("tenant", "north").header("attempt", 1).confirm().await?;
        let headers = FieldTable::from([("tenant", "south")]).with("attempt", 2).with("urgent", true);
        queue.publish("a salad").headers(&headers).confirm().await?;
        queue.publish("a soup").confirm().await?;

        let mut consumer = queue.consume().prefetch(3).await?;
        for _ in 0..3 {
            let Some(delivery) = consumer.try_next().await? else { break };
            print(&delivery)?;
            delivery.ack()?;
        }
        connection.close().await
    })
}

fn print(delivery: &Delivery) -> hopmq::Result<()> {
    // A `Result`, because a publisher may have sent bytes that are no field table.
    let headers = delivery.headers()?;
    if headers.is_empty() {
        println!("{}: no headers", delivery.text());
        return Ok(());
    }

    // `get` returns a `Value`; `as_str`, `as_i64`, … return `None` for a value of another type.
    let tenant = headers.get("tenant").and_then(|value| value.as_str()).unwrap_or("unknown");
    let attempt = headers.get("attempt").and_then(|value| value.as_i64()).unwrap_or(0);
    println!("{}: attempt {attempt} for tenant {tenant:?}", delivery.text());

    for (name, value) in headers.iter() {
        println!("  {name} = {value:?}");
    }
    Ok(())
}
