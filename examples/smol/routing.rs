//! Routing: a subscriber gets the messages whose routing keys equal the keys of its bindings.
//!
//! ```sh
//! cargo run --example smol_routing
//! ```
//!
//! A direct exchange compares a message's routing key with the keys of the bindings: here, the severity of a log line.
//! RabbitMQ's fourth tutorial: <https://www.rabbitmq.com/tutorials>.

use smol::stream::StreamExt;

const EXCHANGE: &str = "smol-severities";

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let logs = channel.exchange(EXCHANGE).direct().declare().await?;

        let mut pager = subscribe(&channel, &["error"]).await?;
        let mut screen = subscribe(&channel, &["info", "warning", "error"]).await?;

        let lines = [("info", "ready"), ("warning", "disk nearly full"), ("error", "disk full"), ("debug", "x = 3")];
        for (severity, line) in lines {
            logs.publish(severity, line).confirm().await?;
            println!("published  {severity}: {line}");
        }

        print_all("pager", &mut pager).await?;
        print_all("screen", &mut screen).await?;
        logs.delete().await?;
        connection.close().await
    })
}

async fn subscribe(channel: &hopmq::Channel, severities: &[&str]) -> hopmq::Result<hopmq::Consumer> {
    let queue = channel.queue("").exclusive().declare().await?;

    // The call itself sends the request, so all of these are in flight before the first reply comes.
    let bindings: Vec<_> = severities.iter().map(|severity| queue.bind(EXCHANGE, severity)).collect();
    for binding in bindings {
        binding.await?;
    }
    queue.consume().no_ack().await
}

async fn print_all(name: &str, lines: &mut hopmq::Consumer) -> hopmq::Result<()> {
    lines.cancel().await?;
    while let Some(line) = lines.try_next().await? {
        println!("{name:<10} {}: {}", line.routing_key(), line.text());
    }
    Ok(())
}
