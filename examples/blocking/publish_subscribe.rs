//! Publish/subscribe: every subscriber gets every message.
//!
//! ```sh
//! cargo run --example blocking_publish_subscribe
//! ```
//!
//! Publishers send to a fanout exchange, which copies each message to all queues that are bound to it.
//! RabbitMQ's third tutorial: <https://www.rabbitmq.com/tutorials>.

use hopmq_blocking::{Channel, Connection, Consumer, Result};

const EXCHANGE: &str = "blocking-logs";

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;
    let logs = channel.exchange(EXCHANGE).fanout().declare()?;

    // Who subscribes later misses what was published before: there is no queue yet to keep it.
    let screen = subscribe(&channel)?;
    let disk = subscribe(&channel)?;

    for line in ["starting", "ready", "stopping"] {
        logs.publish("", line).confirm()?;
        println!("published  {line}");
    }

    print_all("screen", screen)?;
    print_all("disk", disk)?;
    logs.delete().delete()?;
    connection.close()
}

fn subscribe(channel: &Channel) -> Result<Consumer> {
    // Without a name the broker makes one up. An exclusive queue is ours alone, and goes when the connection does.
    let queue = channel.queue("").exclusive().declare()?;
    queue.bind(EXCHANGE, "")?;

    // Logs may be lost with the program that prints them, so they need no acknowledgement.
    queue.consume().no_ack().start()
}

fn print_all(name: &str, lines: Consumer) -> Result<()> {
    // A real subscriber goes on for ever. This one has the broker stop, and takes what was delivered before.
    lines.cancel()?;
    for line in lines {
        println!("{name:<10} {}", String::from_utf8_lossy(line?.body()));
    }
    Ok(())
}
