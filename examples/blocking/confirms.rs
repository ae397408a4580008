//! Publisher confirms: three ways to know that the broker has the message.
//!
//! ```sh
//! cargo run --example blocking_confirms
//! ```
//!
//! Asking for a confirm is all it takes: there is no mode to switch on first.
//! RabbitMQ's seventh tutorial: <https://www.rabbitmq.com/tutorials>.

use std::collections::VecDeque;
use std::time::Instant;

use hopmq_blocking::{Confirm, Connection, ErrorKind, Queue, Result};

const MESSAGES: usize = 1000;

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;
    let queue = channel.queue("").exclusive().declare()?;

    let start = Instant::now();
    one_by_one(&queue)?;
    println!("one by one     {MESSAGES} messages in {:.0?}", start.elapsed());

    let start = Instant::now();
    in_batches(&queue)?;
    println!("in batches     {MESSAGES} messages in {:.0?}", start.elapsed());

    let start = Instant::now();
    in_a_window(&queue)?;
    println!("in a window    {MESSAGES} messages in {:.0?}", start.elapsed());

    // The broker returns a mandatory message that no queue takes, as the error of its confirm.
    match channel.publish("", "no such queue", "lost?").mandatory().confirm() {
        Err(error) if error.kind() == ErrorKind::Returned => println!("returned       {error}"),
        other => other?,
    }
    connection.close()
}

/// The simplest way: each message waits for its confirm, which takes a round trip.
fn one_by_one(queue: &Queue) -> Result<()> {
    for id in 0..MESSAGES {
        queue.publish(format!("message {id}")).confirm()?;
    }
    Ok(())
}

/// Batches: publishes a hundred messages, then waits for all their confirms.
fn in_batches(queue: &Queue) -> Result<()> {
    for batch in 0..MESSAGES / 100 {
        let mut confirms = Vec::new();
        for id in 0..100 {
            confirms.push(queue.publish(format!("message {id} of batch {batch}")).confirm_later()?);
        }
        for confirm in confirms {
            confirm.wait()?;
        }
    }
    Ok(())
}

/// A window: publishes the next message whenever fewer than a hundred are unconfirmed.
fn in_a_window(queue: &Queue) -> Result<()> {
    let mut window: VecDeque<Confirm> = VecDeque::new();
    for id in 0..MESSAGES {
        if window.len() == 100
            && let Some(oldest) = window.pop_front()
        {
            // An error here would be about the message published a hundred before this one.
            oldest.wait()?;
        }
        window.push_back(queue.publish(format!("message {id}")).confirm_later()?);
    }
    for confirm in window {
        confirm.wait()?;
    }
    Ok(())
}
