//! The load that a broker is measured with: `runner-broker WORKLOAD URL COUNT`. Each workload prints a line of JSON.
//!
//! - `flow`: publishes COUNT transient messages on one connection, and consumes and acknowledges them all on another.
//! - `confirmed`: publishes COUNT persistent messages to a durable queue, at most 1,000 of them unconfirmed.
//! - `fill`: does the work of `confirmed` and keeps the queue. `ready`: waits until its messages are ready.
//! - `fan`: publishes COUNT persistent messages of 100 kB to 100 queues each, and keeps the queues.
//! - `crowd`: opens COUNT connections with ten queues each, and holds them until its standard input ends.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Read;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use futures_lite::future::{block_on, try_zip};
use hopmq::{Channel, Connection, Recovery};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BODY: [u8; 100] = [b'x'; 100];
const QUEUE: &str = "bench-broker";
const WINDOW: usize = 1000;
const FANNED: usize = 100;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [workload, url, count] = &arguments[..] else { return Err("usage: runner-broker WORKLOAD URL COUNT".into()) };
    let count: u64 = count.parse()?;
    block_on(async {
        match &workload[..] {
            "flow" => flow(url, count).await,
            "confirmed" => confirmed(url, count, true).await,
            "fill" => confirmed(url, count, false).await,
            "ready" => ready(url, count).await,
            "fan" => fan(url, count).await,
            "crowd" => crowd(url, count).await,
            other => Err(format!("unknown workload {other}").into()),
        }
    })
}

async fn open(url: &str) -> Result<Connection> {
    Ok(Connection::builder().uri(url).recovery(Recovery::off()).open().await?)
}

fn print(messages: u64, time: Duration) {
    println!("{{\"messages\":{messages},\"seconds\":{}}}", time.as_secs_f64());
}

async fn flow(url: &str, count: u64) -> Result<()> {
    let publisher = open(url).await?;
    let channel = publisher.channel().await?;
    let consumer = open(url).await?;
    let consuming = consumer.channel().await?;
    consuming.queue_delete(QUEUE).await?;
    let queue = consuming.queue(QUEUE).declare().await?;
    let mut deliveries = queue.consume().prefetch(1000).await?;
    let start = Instant::now();
    let publish = async {
        for _ in 0..count {
            channel.publish("", QUEUE, &BODY).send().await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let consume = async {
        for _ in 0..count {
            deliveries.try_next().await?.ok_or("the consumer ended")?.ack()?;
        }
        // The answer shows that the broker has received all acks.
        deliveries.cancel().await?;
        Ok(())
    };
    try_zip(publish, consume).await?;
    print(count, start.elapsed());
    queue.delete().await?;
    publisher.close().await?;
    Ok(consumer.close().await?)
}

async fn publish_confirmed(channel: &Channel, exchange: &str, key: &str, body: &[u8], count: u64) -> Result<()> {
    let mut waiting = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if waiting.len() == WINDOW
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
        }
        waiting.push_back(channel.publish(exchange, key, body).persistent().confirm_later().await?);
    }
    for confirm in waiting {
        confirm.await?;
    }
    Ok(())
}

async fn confirmed(url: &str, count: u64, delete_queue: bool) -> Result<()> {
    let connection = open(url).await?;
    let channel = connection.channel().await?;
    channel.queue_delete(QUEUE).await?;
    let queue = channel.queue(QUEUE).durable().declare().await?;
    let start = Instant::now();
    publish_confirmed(&channel, "", QUEUE, &BODY, count).await?;
    print(count, start.elapsed());
    if delete_queue {
        queue.delete().await?;
    }
    Ok(connection.close().await?)
}

async fn ready(url: &str, count: u64) -> Result<()> {
    let start = Instant::now();
    // The broker may still be starting, so this retries until it answers and has all messages.
    loop {
        let found = async {
            let connection = open(url).await?;
            let found = connection.channel().await?.queue(QUEUE).declare_passive().await?.message_count();
            connection.close().await?;
            Ok::<_, Box<dyn Error>>(found)
        };
        match found.await {
            Ok(found) if u64::from(found) >= count => break,
            _ if start.elapsed() > Duration::from_secs(300) => {
                return Err(format!("the queue did not have {count} messages within 300 s").into());
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    print(count, start.elapsed());
    Ok(())
}

async fn fan(url: &str, count: u64) -> Result<()> {
    let connection = open(url).await?;
    let channel = connection.channel().await?;
    for number in 0..FANNED {
        channel.queue(&format!("{QUEUE}-{number}")).durable().declare().await?.bind("amq.fanout", "").await?;
    }
    let start = Instant::now();
    publish_confirmed(&channel, "amq.fanout", "", &[b'x'; 100_000], count).await?;
    print(count, start.elapsed());
    Ok(connection.close().await?)
}

async fn crowd(url: &str, count: u64) -> Result<()> {
    let start = Instant::now();
    let mut connections = Vec::new();
    for number in 0..count {
        let connection = open(url).await?;
        let channel = connection.channel().await?;
        for queue in 0..10 {
            channel.queue(&format!("{QUEUE}-{number}-{queue}")).exclusive().declare().await?;
        }
        connections.push((connection, channel));
    }
    print(count, start.elapsed());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
