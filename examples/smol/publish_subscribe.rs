//! Publish/subscribe: every subscriber gets every message.
//!
//! ```sh
//! cargo run --example smol_publish_subscribe
//! ```
//!
//! Publishers send to a fanout exchange, which copies each message to all queues that are bound to it.
//! RabbitMQ's third tutorial: <https://www.rabbitmq.com/tutorials>.

use smol::stream::StreamExt;

const EXCHANGE: &str = "smol-logs";

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let logs = channel.exchange(EXCHANGE).fanout().declare().await?;

        // A later subscriber would miss these messages: its queue does not exist yet.
        let mut screen = subscribe(&channel).await?;
        let mut disk = subscribe(&channel).await?;

        for line in ["starting", "ready", "stopping"] {
            logs.publish("", line).confirm().await?;
            println!("published  {line}");
        }

        print_all("screen", &mut screen).await?;
        print_all("disk", &mut disk).await?;
        logs.delete().await?;
        connection.close().await
    })
}

async fn subscribe(channel: &hopmq::Channel) -> hopmq::Result<hopmq::Consumer> {
    // The broker chooses the name. An exclusive queue is for this connection only, and is deleted with it.
    let queue = channel.queue("").exclusive().declare().await?;
    queue.bind(EXCHANGE, "").await?;

    // Losing log lines with the program that prints them does no harm, so they need no acknowledgement.
    queue.consume().no_ack().await
}

async fn print_all(name: &str, lines: &mut hopmq::Consumer) -> hopmq::Result<()> {
    // A real subscriber would not stop. This one cancels its consumer and takes what was delivered before.
    lines.cancel().await?;
    while let Some(line) = lines.try_next().await? {
        println!("{name:<10} {}", line.text());
    }
    Ok(())
}
