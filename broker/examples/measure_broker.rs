//! Measures how many messages per second a broker delivers: `measure_broker serve [FOLDER]` starts a broker,
//! `measure_broker URI [COUNT]` measures any. One connection publishes, another consumes and acks each message.

use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use futures_lite::future::{block_on, try_zip};
use hopmq::Connection;
use hopmq_broker::Broker;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => serve(arguments.next()),
        Some(uri) => {
            let count = arguments.next().map_or(Ok(300_000), |count| count.parse())?;
            block_on(measure(uri, count))
        }
        None => Err("missing arguments; run with `serve [FOLDER]` or with `URI [COUNT]`".into()),
    }
}

fn serve(folder: Option<String>) -> Outcome {
    let broker = match folder {
        Some(folder) => Broker::open(folder)?,
        None => Broker::in_memory(),
    };
    println!("amqp://guest:guest@{}/%2f", broker.listen("127.0.0.1:0")?);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

async fn measure(uri: &str, count: u32) -> Outcome {
    delivered(uri, count, false).await?;
    delivered(uri, count, true).await?;
    confirmed(uri, count).await
}

fn print(what: &str, count: u32, since: Instant) {
    println!("{what}: {:.0} messages/s", f64::from(count) / since.elapsed().as_secs_f64());
}

/// Publishes with confirms, and consumes and acks all messages at the same time.
async fn delivered(uri: &str, count: u32, persistent: bool) -> Outcome {
    let publishing = Connection::open(uri).await?;
    let consuming = Connection::open(uri).await?;
    let publisher = publishing.channel().await?;
    let channel = consuming.channel().await?;
    let name = if persistent { "measured-persistent" } else { "measured" };
    let mut declare = channel.queue(name);
    if persistent {
        declare = declare.durable();
    }
    let queue = declare.declare().await?;
    let mut consumer = queue.consume().prefetch(1000).await?;
    let since = Instant::now();
    let publish = async {
        let mut last = None;
        for number in 1..=count {
            let mut publish = publisher.publish("", name, &[7; 100]);
            if persistent {
                publish = publish.persistent();
            }
            last = Some(publish.confirm_later().await?);
            if number % 1000 == 0
                && let Some(confirm) = last.take()
            {
                confirm.await?;
            }
        }
        if let Some(confirm) = last {
            confirm.await?;
        }
        Ok::<_, hopmq::Error>(())
    };
    let consume = async {
        for _ in 0..count {
            if let Some(delivery) = consumer.try_next().await? {
                delivery.ack()?;
            }
        }
        Ok::<_, hopmq::Error>(())
    };
    try_zip(publish, consume).await?;
    print(
        if persistent { "persistent, confirmed, consumed, acked" } else { "transient, confirmed, consumed, acked" },
        count,
        since,
    );
    drop(consumer);
    channel.queue_delete(name).delete().await?;
    Ok(())
}

/// Publishes with a window of 1,000 unconfirmed messages to a durable queue without consumers.
async fn confirmed(uri: &str, count: u32) -> Outcome {
    let connection = Connection::open(uri).await?;
    let channel = connection.channel().await?;
    channel.queue("measured-backlog").durable().declare().await?;
    let since = Instant::now();
    let mut window = std::collections::VecDeque::new();
    for _ in 0..count {
        window.push_back(channel.publish("", "measured-backlog", &[7; 100]).persistent().confirm_later().await?);
        if window.len() >= 1000
            && let Some(confirm) = window.pop_front()
        {
            confirm.await?;
        }
    }
    for confirm in window {
        confirm.await?;
    }
    print("persistent, confirmed in a window of 1,000", count, since);
    channel.queue_delete("measured-backlog").delete().await?;
    Ok(connection.close().await?)
}
