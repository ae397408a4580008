//! What each operation on exchanges, queues, bindings and consumers costs while a connection keeps them for recovery:
//! 1,000, 10,000 and 100,000 queues with five bindings and a consumer each. Prints microseconds an operation, which
//! must not grow with the number of queues.
//!
//! ```text
//! bench-ledger [COUNT …]
//! ```

mod peer;

use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use hopmq::{Connection, Consumer, Event, Queue, Recovery, Request};

use peer::Peer;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bindings of each queue.
const BINDINGS: usize = 5;
/// Requests in flight.
const WINDOW: usize = 512;
/// Channels that the consumers are spread over.
const CHANNELS: usize = 10;
/// A time that no step takes.
const LONG: Duration = Duration::from_secs(100_000);

fn main() -> Result<()> {
    let counts = std::env::args().skip(1).map(|count| count.parse());
    let counts: Vec<usize> = counts.collect::<std::result::Result<_, _>>()?;
    let counts = if counts.is_empty() { vec![1_000, 10_000, 100_000] } else { counts };
    println!("microseconds an operation (recover: an entity)");
    println!("{:>8} {:<6} {}", "queues", "named", STEPS.map(|step| format!("{step:>9}")).join(""));
    for named_by_broker in [false, true] {
        for count in &counts {
            let figures = future::block_on(measure(*count, named_by_broker))?;
            let figures: String = figures.iter().map(|micros| format!("{micros:>9.2}")).collect();
            println!("{count:>8} {:<6} {figures}", if named_by_broker { "broker" } else { "client" });
        }
    }
    Ok(())
}

const STEPS: [&str; 7] = ["declare", "bind", "consume", "recover", "cancel", "unbind", "delete"];

async fn measure(count: usize, named_by_broker: bool) -> Result<[f64; STEPS.len()]> {
    let peer = Peer::start()?;
    let uri = format!("amqp://{}", peer.address);
    let recovery = Recovery::new().delays(Duration::from_millis(1), Duration::from_millis(10));
    let connection = Connection::builder().uri(&uri).recovery(recovery).request_timeout(LONG).open().await?;
    let channel = connection.channel().await?;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(connection.channel().await?);
    }
    let exchanges: Vec<String> = (0..10).map(|number| format!("exchange-{number}")).collect();
    for exchange in &exchanges {
        channel.exchange(exchange).topic().declare().await?;
    }
    let bindings = |queues: &[Queue]| -> Vec<(Queue, usize)> {
        queues.iter().flat_map(|queue| (0..BINDINGS).map(|number| (queue.clone(), number))).collect()
    };

    let name = |number: usize| if named_by_broker { String::new() } else { format!("queue-{number}") };
    let (declare, queues) = all(0..count, |number| channel.queue(&name(number)).declare()).await?;
    let place = |number: usize| &*exchanges[number % exchanges.len()];
    let bind = |(queue, number): (Queue, usize)| queue.bind(place(number), &format!("key-{number}"));
    let (bind, _) = all(bindings(&queues), bind).await?;
    let consume = |(number, queue): (usize, Queue)| channels[number % CHANNELS].consume(queue.name()).start();
    let numbered: Vec<(usize, Queue)> = queues.iter().cloned().enumerate().collect();
    let (consume, consumers) = all(numbered, consume).await?;
    let recover = recover(&connection, &peer).await?;
    let (cancel, _) = all(&consumers, |consumer: &Consumer| consumer.cancel()).await?;
    let unbind = |(queue, number): (Queue, usize)| queue.unbind(place(number), &format!("key-{number}"));
    let most: Vec<_> = bindings(&queues).into_iter().filter(|(_, number)| *number > 1).collect();
    let (unbind, _) = all(most, unbind).await?;
    let (delete, _) = all(queues, |queue| queue.delete().delete()).await?;
    drop(consumers);
    connection.close().await?;
    let entities = exchanges.len() + count * (2 + BINDINGS);
    Ok([declare, bind, consume, recover / entities as f64, cancel, unbind, delete])
}

/// Cuts the link. Returns how many microseconds the replay takes on the next one.
async fn recover(connection: &Connection, peer: &Peer) -> Result<f64> {
    let mut events = connection.events();
    peer.cut();
    let mut begin = Instant::now();
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { .. } => begin = Instant::now(),
            Event::Recovered { .. } => return Ok(begin.elapsed().as_secs_f64() * 1e6),
            Event::NotRestored { error, .. } | Event::Closed { error } => return Err(error.into()),
            _ => {}
        }
    }
    Err("the connection ended".into())
}

/// Makes a request for each item, with a window of them in flight. Returns microseconds a request, and the replies.
async fn all<I, T>(
    items: impl IntoIterator<Item = I>,
    mut request: impl FnMut(I) -> Request<T>,
) -> hopmq::Result<(f64, Vec<T>)> {
    let begin = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    let mut replies = Vec::new();
    for item in items {
        waiting.push_back(request(item));
        if waiting.len() == WINDOW
            && let Some(oldest) = waiting.pop_front()
        {
            replies.push(oldest.await?);
        }
    }
    for request in waiting {
        replies.push(request.await?);
    }
    Ok((begin.elapsed().as_secs_f64() * 1e6 / replies.len().max(1) as f64, replies))
}
