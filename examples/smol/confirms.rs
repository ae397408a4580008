//! Publisher confirms: three ways to know that the broker has the message.
//!
//! ```sh
//! cargo run --example smol_confirms
//! ```
//!
//! Asking for a confirm is all it takes: there is no mode to switch on first.
//! RabbitMQ's seventh tutorial: <https://www.rabbitmq.com/tutorials>.

use std::collections::VecDeque;
use std::time::Instant;

use hopmq::{Confirm, ErrorKind, Queue};

const MESSAGES: usize = 1000;

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let queue = channel.queue("").exclusive().declare().await?;

        let start = Instant::now();
        one_by_one(&queue).await?;
        println!("one by one     {MESSAGES} messages in {:.0?}", start.elapsed());

        let start = Instant::now();
        in_batches(&queue).await?;
        println!("in batches     {MESSAGES} messages in {:.0?}", start.elapsed());

        let start = Instant::now();
        in_a_window(&queue).await?;
        println!("in a window    {MESSAGES} messages in {:.0?}", start.elapsed());

        // The broker returns a mandatory message that no queue takes, as the error of its confirm.
        match channel.publish("", "no such queue", "lost?").mandatory().confirm().await {
            Err(error) if error.kind() == ErrorKind::Returned => println!("returned       {error}"),
            other => other?,
        }
        connection.close().await
    })
}

/// The simplest way: each message waits for its confirm, which takes a round trip.
async fn one_by_one(queue: &Queue) -> hopmq::Result<()> {
    for id in 0..MESSAGES {
        queue.publish(format!("message {id}")).confirm().await?;
    }
    Ok(())
}

/// Batches: publishes a hundred messages, then awaits all their confirms.
async fn in_batches(queue: &Queue) -> hopmq::Result<()> {
    for batch in 0..MESSAGES / 100 {
        let mut confirms = Vec::new();
        for id in 0..100 {
            confirms.push(queue.publish(format!("message {id} of batch {batch}")).confirm_later().await?);
        }
        for confirm in confirms {
            confirm.await?;
        }
    }
    Ok(())
}

/// A window: publishes the next message whenever fewer than a hundred are unconfirmed.
async fn in_a_window(queue: &Queue) -> hopmq::Result<()> {
    let mut window: VecDeque<Confirm> = VecDeque::new();
    for id in 0..MESSAGES {
        if window.len() == 100
            && let Some(oldest) = window.pop_front()
        {
            // An error here would be about the message published a hundred before this one.
            oldest.await?;
        }
        window.push_back(queue.publish(format!("message {id}")).confirm_later().await?);
    }
    for confirm in window {
        confirm.await?;
    }
    Ok(())
}
