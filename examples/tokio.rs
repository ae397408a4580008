//! On tokio: its sockets, its timers, its tasks.
//!
//! ```sh
//! cargo run --example tokio
//! ```
//!
//! `open_tokio` needs the feature `tokio` of `hopmq`. `Connection::open` works under tokio too: then a thread of HopMQ's
//! own drives the connection instead of a task of tokio's. Nothing else differs.

use std::time::Duration;

use futures_lite::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = hopmq::Connection::builder().uri(&url).name("tokio example").open_tokio().await?;
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;

    // The consumer is `Send`: give it to a task.
    let mut consumer = queue.consume().prefetch(10).await?;
    let worker = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(delivery) = consumer.try_next().await? {
            let Ok(number) = String::from_utf8_lossy(delivery.body()).parse::<u32>() else { break };
            sum += number;
            println!("received {number}");
            delivery.ack()?;
        }
        Ok::<u32, hopmq::Error>(sum)
    });

    for number in 1..=5 {
        queue.publish(number.to_string()).send().await?;
    }
    queue.publish("the end").confirm().await?;
    println!("the sum is {}", worker.await??);

    // Any future of HopMQ's may be dropped at any time, by a timeout or `select!`: channel and connection go on.
    let mut consumer = queue.consume().await?;
    consumer.try_next().await?;
    match tokio::time::timeout(Duration::from_millis(100), consumer.try_next()).await {
        Err(_) => println!("nothing else came within 100 ms"),
        Ok(_) => println!("more came than was sent"),
    }
    println!("and the queue has {} messages", channel.queue(queue.name()).passive().await?.message_count());
    Ok(connection.close().await?)
}
