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

    // A later subscriber would miss these messages: its queue does not exist yet.
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
    // The broker chooses the name. An exclusive queue is for this connection only, and is deleted with it.
    let queue = channel.queue("").exclusive().declare()?;
    queue.bind(EXCHANGE, "")?;

    // Losing log lines with the program that prints them does no harm, so they need no acknowledgement.
    queue.consume().no_ack().start()
}

fn print_all(name: &str, lines: Consumer) -> Result<()> {
    // A real subscriber would not stop. This one cancels its consumer and takes what was delivered before.
    lines.cancel()?;
    for line in lines {
        println!("{name:<10} {}", String::from_utf8_lossy(line?.body()));
    }
    Ok(())
}
