//! Hello World: one program sends a message, another receives it.
//!
//! ```sh
//! cargo run --example blocking_hello
//! ```
//!
//! Both programs are in this one file, each with a connection of its own.
//! RabbitMQ's first tutorial: <https://www.rabbitmq.com/tutorials>.

use hopmq_blocking::{Connection, Result};

const QUEUE: &str = "blocking-hello";

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    send(&url)?;
    receive(&url)
}

fn send(url: &str) -> Result<()> {
    let connection = Connection::open(url)?;
    let channel = connection.channel()?;

    // Both programs declare the queue, since either may start first. Declaring it again does nothing.
    let queue = channel.queue(QUEUE).durable().declare()?;

    // `confirm` waits until the broker has the message; `send` would not.
    queue.publish("Hello World!").confirm()?;
    println!("sent      Hello World!");

    // Dropping the connection would close it too; `close` also returns whether it succeeded.
    connection.close()
}

fn receive(url: &str) -> Result<()> {
    let connection = Connection::open(url)?;
    let channel = connection.channel()?;
    let queue = channel.queue(QUEUE).durable().declare()?;

    // A consumer is an iterator. A real program would loop: `for delivery in consumer { … }`
    let mut consumer = queue.consume().start()?;
    if let Some(delivery) = consumer.next() {
        let delivery = delivery?;
        println!("received  {}", delivery.text());
        // Without an acknowledgement, the broker delivers the message again when this channel is closed.
        delivery.ack()?;
    }

    queue.delete().delete()?;
    connection.close()
}
