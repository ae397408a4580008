//! Routing: a subscriber gets the messages whose routing keys equal the keys of its bindings.
//!
//! ```sh
//! cargo run --example blocking_routing
//! ```
//!
//! A direct exchange compares a message's routing key with the keys of the bindings: here, the severity of a log line.
//! RabbitMQ's fourth tutorial: <https://www.rabbitmq.com/tutorials>.

use hopmq_blocking::{Channel, Connection, Consumer, Result};

const EXCHANGE: &str = "blocking-severities";

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;
    let logs = channel.exchange(EXCHANGE).direct().declare()?;

    let pager = subscribe(&channel, &["error"])?;
    let screen = subscribe(&channel, &["info", "warning", "error"])?;

    let lines = [("info", "ready"), ("warning", "disk nearly full"), ("error", "disk full"), ("debug", "x = 3")];
    for (severity, line) in lines {
        logs.publish(severity, line).confirm()?;
        println!("published  {severity}: {line}");
    }

    print_all("pager", pager)?;
    print_all("screen", screen)?;
    logs.delete().delete()?;
    connection.close()
}

fn subscribe(channel: &Channel, severities: &[&str]) -> Result<Consumer> {
    let queue = channel.queue("").exclusive().declare()?;
    for severity in severities {
        queue.bind(EXCHANGE, severity)?;
    }
    queue.consume().no_ack().start()
}

fn print_all(name: &str, lines: Consumer) -> Result<()> {
    lines.cancel()?;
    for line in lines {
        let line = line?;
        println!("{name:<10} {}: {}", line.routing_key(), line.text());
    }
    Ok(())
}
