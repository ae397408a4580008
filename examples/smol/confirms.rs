//! Publisher confirms: knowing that the broker has the message, three ways.
//!
//! ```sh
//! cargo run --example smol_confirms
//! ```
//!
//! Whoever asks for confirms gets them: there is no mode that one could forget to switch on.
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

        // A mandatory message that fits no queue comes back, as the error of its own confirm.
        match channel.publish("", "no such queue", "lost?").mandatory().confirm().await {
            Err(error) if error.kind() == ErrorKind::Returned => println!("returned       {error}"),
            other => other?,
        }
        connection.close().await
    })
}

/// The simplest way: each message waits for the broker, which takes a round trip.
async fn one_by_one(queue: &Queue) -> hopmq::Result<()> {
    for id in 0..MESSAGES {
        queue.publish(format!("message {id}")).confirm().await?;
    }
    Ok(())
}

/// A hundred at a time: publish them all, then await them all.
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

/// Steadily: a message goes out whenever fewer than a hundred are unconfirmed.
async fn in_a_window(queue: &Queue) -> hopmq::Result<()> {
    let mut window: VecDeque<Confirm> = VecDeque::new();
    for id in 0..MESSAGES {
        if window.len() == 100
            && let Some(oldest) = window.pop_front()
        {
            // Its error would tell which message to publish again: the one a hundred before this.
            oldest.await?;
        }
        window.push_back(queue.publish(format!("message {id}")).confirm_later().await?);
    }
    for confirm in window {
        confirm.await?;
    }
    Ok(())
}
