//! Publishers and a consumer without any handling of faults, and the ledger of their messages.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use hopmq::{Builder, Connection, ErrorKind, Event, Publisher, Recovery};

use crate::ledger::{Balance, Ledger};
use crate::{Failure, Outcome, broker};

/// Kinds of queues that survive a restart of the broker.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// On the disk of one node.
    Durable,
    /// A quorum queue on a broker of one node.
    Quorum,
    /// A quorum queue on a cluster.
    Replicated,
}

/// Publishers on one connection, and a consumer on another.
#[derive(Debug)]
pub struct Traffic {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    events: Arc<EventLog>,
    connections: Vec<Connection>,
    publishing: Vec<smol::Task<()>>,
    consuming: smol::Task<Outcome>,
}

/// Time until messages must flow again, or the last one must be consumed.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Traffic {
    /// Declares the queue, and starts the publishers and the consumer.
    ///
    /// # Errors
    /// If the client can't connect, or the broker refuses a request.
    pub async fn start(builder: &Builder, queue: &str, kind: Kind) -> Outcome<Self> {
        let recovery = Recovery::new().delays(Duration::from_millis(20), Duration::from_millis(500));
        let builder = builder.clone().recovery(recovery).heartbeat(Duration::from_secs(2));
        let confirm_timeout = Duration::from_secs(if matches!(kind, Kind::Replicated) { 5 } else { 100 });
        let builder = builder.connect_timeout(Duration::from_secs(3)).confirm_timeout(confirm_timeout);
        let builder = builder.request_timeout(Duration::from_secs(100));
        let publishing = builder.open().await?;
        let consuming = builder.open().await?;
        let ledger = Arc::new(Ledger::default());
        let stop = Arc::<AtomicBool>::default();
        let events = Arc::new(EventLog::new());
        events.record("publisher", &publishing);
        events.record("consumer", &consuming);
        let channel = consuming.channel().await?;
        let declare = channel.queue(queue).durable();
        let queue = match kind {
            Kind::Durable => declare.declare().await?,
            Kind::Quorum | Kind::Replicated => declare.quorum().declare().await?,
        };
        let mut consumer = queue.consume().prefetch(20).await?;
        let consumed = Arc::clone(&ledger);
        let consume = async move {
            while let Some(delivery) = consumer.try_next().await? {
                consumed.consumed(delivery.text().parse()?);
                delivery.ack()?;
            }
            Ok(())
        };
        let ended = Arc::clone(&ledger);
        let consume = smol::spawn(async move {
            let outcome: Outcome = consume.await;
            ended.fail(format_args!("the consumer ended: {outcome:?}"));
            outcome
        });
        let publisher = publisher(&publishing, queue.name()).await?;
        let one = |_| {
            let connection = publishing.clone();
            let publisher = publisher.clone();
            let queue = queue.name().to_owned();
            let ledger = Arc::clone(&ledger);
            let stop = Arc::clone(&stop);
            smol::spawn(async move {
                if let Err(failure) = publish(&connection, publisher, &queue, kind, &ledger, &stop).await {
                    ledger.fail(format_args!("publishing failed: {failure}"));
                }
            })
        };
        let tasks = (0..4).map(one).collect();
        let connections = vec![publishing, consuming];
        Ok(Self { ledger, stop, events, connections, publishing: tasks, consuming: consume })
    }

    /// Waits until 20 more messages are confirmed.
    ///
    /// # Errors
    /// If that takes longer than a minute, or a publisher or the consumer has failed.
    pub async fn flows(&self) -> Outcome {
        let from = self.ledger.balance().confirmed;
        let flows = self.ledger.until(|balance| balance.confirmed >= from + 20);
        self.in_time("20 more messages are confirmed", flows).await.map(drop)
    }

    /// Stops the publishers, waits until all messages are confirmed and consumed, and checks the ledger.
    ///
    /// # Errors
    /// If a message is lost.
    pub async fn finish(mut self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        for task in std::mem::take(&mut self.publishing) {
            task.await;
        }
        let settled = self.ledger.until(|balance| balance.lost == 0 && balance.confirmed == balance.published);
        let balance = self.in_time("all published messages are confirmed and consumed", settled).await?;
        // The thread has the name of the scenario.
        println!("{}: {balance}", std::thread::current().name().unwrap_or_default());
        assert_eq!(balance, Balance { lost: 0, unexpected: 0, confirmed: balance.published, ..balance });
        for connection in &self.connections {
            connection.shutdown(Duration::from_secs(10)).await?;
        }
        self.consuming.await
    }

    async fn in_time<T>(&self, what: &str, wait: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        let outcome = within(TIMEOUT, what, wait).await;
        if let Err(failure) = &outcome {
            let balance = self.ledger.balance();
            let seen = smol::unblock(broker_view).await;
            let lost = self.ledger.lost();
            return Err(Failure::new(format!("{failure}: {balance:?}, lost: {lost:?}\n{}{seen}", self.events)));
        }
        outcome
    }
}

/// Returns what RabbitMQ knows of its queues and consumers, to print with a failure.
fn broker_view() -> String {
    let mut seen = String::new();
    let queues = ["list_queues", "name", "state", "messages_ready", "messages_unacknowledged", "consumers"];
    let consumers = ["list_consumers", "queue_name", "channel_pid", "consumer_tag", "prefetch_count", "active"];
    for arguments in [&queues[..], &consumers] {
        match broker().ctl(arguments) {
            Ok(output) => seen += &output,
            Err(failure) => seen += &format!("{failure}\n"),
        }
    }
    seen
}

async fn publisher(connection: &Connection, queue: &str) -> hopmq::Result<Publisher> {
    Ok(connection.channel().await?.publisher("", queue).persistent().mandatory())
}

/// Publishes messages, each after the confirm of the one before.
async fn publish(
    connection: &Connection,
    mut publisher: Publisher,
    queue: &str,
    kind: Kind,
    ledger: &Ledger,
    stop: &AtomicBool,
) -> hopmq::Result<()> {
    while !stop.load(Ordering::SeqCst) {
        let id = ledger.publish();
        loop {
            match publisher.publish(id.to_string()).confirm().await {
                Ok(()) => break,
                // The connection that declares the queue has not reconnected yet, or the queue's nodes are electing a
                // leader.
                Err(error) if matches!(error.kind(), ErrorKind::Returned | ErrorKind::Nacked | ErrorKind::Timeout) => {
                    pause(Duration::from_millis(50)).await;
                    // A channel of RabbitMQ 3.10 that used the queue while it had no leader keeps asking the former
                    // leader: it refuses for ever, or never replies.
                    if matches!(kind, Kind::Replicated) {
                        publisher = self::publisher(connection, queue).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        ledger.confirmed(id);
        pause(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn pause(time: Duration) {
    smol::Timer::after(time).await;
}

/// Waits until `what` is the case, at most for `time`.
///
/// # Errors
/// If `wait` fails, or takes longer.
pub async fn within<T>(time: Duration, what: &str, wait: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let late = async {
        pause(time).await;
        Err(Failure::new(format!("timed out after {time:?}, waiting until {what}")))
    };
    future::or(wait, late).await
}

/// The latest events of the connections, to print with a failure.
#[derive(Debug)]
struct EventLog {
    begin: Instant,
    lines: Mutex<VecDeque<String>>,
}

/// Events that are kept, at most.
const LINES: usize = 60;

impl EventLog {
    fn new() -> Self {
        Self { begin: Instant::now(), lines: Mutex::default() }
    }

    fn record(self: &Arc<Self>, name: &'static str, connection: &Connection) {
        let log = Arc::clone(self);
        let mut events = connection.events();
        smol::spawn(async move {
            while let Some(event) = events.next().await {
                if !matches!(event, Event::Connecting { .. }) {
                    log.add(format_args!("{name}: {event:?}"));
                }
            }
        })
        .detach();
    }

    fn add(&self, what: impl Display) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:8.3} s {what}", self.begin.elapsed().as_secs_f64()));
    }
}

impl Display for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
