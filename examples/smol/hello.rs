//! Hello World: one program sends a message, another receives it.
//!
//! ```sh
//! cargo run --example smol_hello
//! ```
//!
//! Both programs are in this one file, each with a connection of its own.
//! RabbitMQ's first tutorial: <https://www.rabbitmq.com/tutorials>.

use smol::stream::StreamExt;

const QUEUE: &str = "smol-hello";

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        send(&url).await?;
        receive(&url).await
    })
}

async fn send(url: &str) -> hopmq::Result<()> {
    let connection = hopmq::Connection::open(url).await?;
    let channel = connection.channel().await?;

    // Both programs declare the queue, since either may start first. Declaring it again does nothing.
    let queue = channel.queue(QUEUE).durable().declare().await?;

    // `confirm` waits until the broker has the message; `send` would not.
    queue.publish("Hello World!").confirm().await?;
    println!("sent      Hello World!");

    // Dropping the connection would close it too; `close` waits for that, and returns whether it succeeded.
    connection.close().await
}

async fn receive(url: &str) -> hopmq::Result<()> {
    let connection = hopmq::Connection::open(url).await?;
    let channel = connection.channel().await?;
    let queue = channel.queue(QUEUE).durable().declare().await?;

    // A consumer is a stream. A real program would loop: `while let Some(delivery) = consumer.try_next().await? { … }`
    let mut consumer = queue.consume().await?;
    if let Some(delivery) = consumer.try_next().await? {
        println!("received  {}", delivery.text());
        // Without an acknowledgement, the broker delivers the message again when this channel is closed.
        delivery.ack()?;
    }

    queue.delete().await?;
    connection.close().await
}
