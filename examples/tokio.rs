//! On tokio: with tokio's sockets, timers and tasks.
//!
//! ```sh
//! cargo run --example tokio
//! ```
//!
//! `open_tokio` needs the feature `tokio` of `hopmq`. `Connection::open` works under tokio too; a thread of HopMQ
//! drives the connection then, in place of a tokio task. Nothing else differs.

use std::time::Duration;

use futures_lite::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = hopmq::Connection::builder().uri(&url).connection_name("tokio example").open_tokio().await?;
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;

    // A consumer is `Send`, so a task may own it; this task returns it at the end.
    let mut consumer = queue.consume().prefetch(10).await?;
    let worker = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(delivery) = consumer.try_next().await? {
            let number: Option<u32> = delivery.text().parse().ok();
            delivery.ack()?;
            let Some(number) = number else { break };
            println!("received {number}");
            sum += number;
        }
        Ok::<_, hopmq::Error>((sum, consumer))
    });

    for number in 1..=5 {
        queue.publish(number.to_string()).send().await?;
    }
    queue.publish("the end").confirm().await?;
    let (sum, mut consumer) = worker.await??;
    println!("the sum is {sum}");

    // Any future of HopMQ may be dropped at any time, by a timeout or by `select!`: no message is lost, and channel and
    // connection stay open.
    match tokio::time::timeout(Duration::from_millis(100), consumer.try_next()).await {
        Err(_) => println!("no more messages within 100 ms"),
        Ok(_) => println!("received more messages than were sent"),
    }
    queue.publish("one more").send().await?;
    if let Some(delivery) = consumer.try_next().await? {
        println!("received {:?}", delivery.text());
        delivery.ack()?;
    }
    Ok(connection.close().await?)
}
