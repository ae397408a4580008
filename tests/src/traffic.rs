//! A publisher and a consumer that know nothing of faults, and the books about what they did.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use hopmq::{Builder, Connection, ErrorKind, Event, Publisher, Recovery};

use crate::ledger::{Balance, Ledger};
use crate::{Failure, Outcome};

/// How a queue is declared that outlives the broker.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// On the disk of one node.
    Durable,
    /// In Raft's log, on a broker of one node.
    Quorum,
    /// On the disks of most of a cluster's nodes.
    Replicated,
}

/// Messages that are published and consumed, over a connection each.
#[derive(Debug)]
pub struct Traffic {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    diary: Arc<Diary>,
    connections: Vec<Connection>,
    publishing: Vec<smol::Task<()>>,
    consuming: smol::Task<Outcome>,
}

/// How long messages may take to flow again, or to come to an end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Traffic {
    /// Declares the queue and starts.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn start(builder: &Builder, queue: &str, kind: Kind) -> Outcome<Self> {
        let recovery = Recovery::new().delays(Duration::from_millis(20), Duration::from_millis(500));
        let builder = builder.clone().recovery(recovery).heartbeat(Duration::from_secs(2));
        let confirm_timeout = Duration::from_secs(if matches!(kind, Kind::Replicated) { 5 } else { 100 });
        let builder = builder.connect_timeout(Duration::from_secs(3)).confirm_timeout(confirm_timeout);
        let builder = builder.request_timeout(Duration::from_secs(100));
        let (publishing, consuming) = (builder.open().await?, builder.open().await?);
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::<AtomicBool>::default());
        let diary = Arc::new(Diary::new());
        diary.keep("publisher", &publishing);
        diary.keep("consumer", &consuming);
        let channel = consuming.channel().await?;
        let declare = channel.queue(queue).durable();
        let queue = match kind {
            Kind::Durable => declare.declare().await?,
            Kind::Quorum | Kind::Replicated => declare.quorum().declare().await?,
        };
        let mut consumer = queue.consume().prefetch(20).await?;
        let books = Arc::clone(&ledger);
        let consume = async move {
            while let Some(delivery) = consumer.try_next().await? {
                books.consumed(delivery.text().parse()?);
                delivery.ack()?;
            }
            Ok(())
        };
        let books = Arc::clone(&ledger);
        let consume = smol::spawn(async move {
            let outcome: Outcome = consume.await;
            books.broken(format_args!("the consumer ended: {outcome:?}"));
            outcome
        });
        let publisher = publisher(&publishing, queue.name()).await?;
        let one = |_| {
            let (connection, publisher, queue) = (publishing.clone(), publisher.clone(), queue.name().to_owned());
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            smol::spawn(async move {
                if let Err(failure) = publish(&connection, publisher, &queue, kind, &ledger, &stop).await {
                    ledger.broken(format_args!("publishing failed: {failure}"));
                }
            })
        };
        let tasks = (0..4).map(one).collect();
        let connections = vec![publishing, consuming];
        Ok(Self { ledger, stop, diary, connections, publishing: tasks, consuming: consume })
    }

    /// Waits until messages are confirmed and consumed again.
    ///
    /// # Errors
    /// If that takes too long, or can't be any more.
    pub async fn flows(&self) -> Outcome {
        let from = self.ledger.balance().confirmed;
        let flows = self.ledger.until(|balance| balance.confirmed >= from + 20);
        self.in_time("messages are confirmed again", flows).await.map(drop)
    }

    /// Ends the traffic when all has come, and checks the books.
    ///
    /// # Errors
    /// If something is lost.
    pub async fn finish(mut self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        for task in std::mem::take(&mut self.publishing) {
            task.await;
        }
        let settled = self.ledger.until(|balance| balance.lost == 0 && balance.confirmed == balance.published);
        let balance = self.in_time("all that was published is confirmed and consumed", settled).await?;
        // Scenarios run on threads of their names.
        println!("{}: {balance}", std::thread::current().name().unwrap_or_default());
        assert_eq!(balance, Balance { lost: 0, unexpected: 0, confirmed: balance.published, ..balance });
        for connection in &self.connections {
            connection.shutdown(Duration::from_secs(10)).await?;
        }
        self.consuming.await
    }

    async fn in_time<T>(&self, what: &str, wait: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        let outcome = within(PATIENCE, what, wait).await;
        if let Err(failure) = &outcome {
            let (balance, diary) = (self.ledger.balance(), &self.diary);
            return Err(Failure::new(format!("{failure}: {balance:?}\n{diary}")));
        }
        outcome
    }
}

async fn publisher(connection: &Connection, queue: &str) -> hopmq::Result<Publisher> {
    Ok(connection.channel().await?.publisher("", queue).persistent().mandatory())
}

/// Publishes one message after the other.
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
                // The queue is not there yet, for the connection that declares it has not come back; or its nodes are
                // electing a leader, and the broker can't take care of the message.
                Err(error) if matches!(error.kind(), ErrorKind::Returned | ErrorKind::Nacked | ErrorKind::Timeout) => {
                    pause(Duration::from_millis(50)).await;
                    // A channel of RabbitMQ 3.10's that met the queue while nobody led it goes on asking the node that
                    // led before: it refuses for ever, or never answers.
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

/// Waits for something, but no longer than so.
///
/// # Errors
/// Its own, or that it takes too long.
pub async fn within<T>(time: Duration, what: &str, wait: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let late = async {
        pause(time).await;
        Err(Failure::new(format!("it is not so within {time:?} that {what}")))
    };
    future::or(wait, late).await
}

/// What happened to the connections, for whoever looks for the cause of a failure.
#[derive(Debug)]
struct Diary {
    begin: Instant,
    lines: Mutex<VecDeque<String>>,
}

/// Lines that are kept, the latest.
const LINES: usize = 60;

impl Diary {
    fn new() -> Self {
        Self { begin: Instant::now(), lines: Mutex::default() }
    }

    fn keep(self: &Arc<Self>, who: &'static str, connection: &Connection) {
        let (diary, mut events) = (Arc::clone(self), connection.events());
        smol::spawn(async move {
            while let Some(event) = events.next().await {
                if !matches!(event, Event::Connecting { .. }) {
                    diary.note(format_args!("{who}: {event:?}"));
                }
            }
        })
        .detach();
    }

    fn note(&self, what: impl Display) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:8.3} s {what}", self.begin.elapsed().as_secs_f64()));
    }
}

impl Display for Diary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
