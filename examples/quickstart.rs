//! The quickstart: publishes 100,000 confirmed messages, consumes and acknowledges them all, and prints the rates.
//!
//! Without `AMQP_URL`, the program starts its own broker and needs nothing else.
//!
//! ```sh
//! cargo run --release --example quickstart
//! AMQP_URL=amqp://user:password@broker:5672/vhost cargo run --release --example quickstart
//! ```

use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hopmq::{Connection, ErrorKind, Queue};
use hopmq_broker::Broker;
use smol::stream::StreamExt;

const MESSAGES: u64 = 100_000;
const BODY: [u8; 100] = [b'x'; 100];

/// How many messages may be unconfirmed.
const WINDOW: usize = 2_000;

fn main() -> ExitCode {
    let embedded = Broker::in_memory();
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| {
        println!("AMQP_URL is not set: using a broker within this program.");
        embedded.uri()
    });
    match smol::block_on(run(&url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nError: {error}");
            if let Some(advice) = advice(error.kind()) {
                eprintln!("{advice}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(url: &str) -> hopmq::Result<()> {
    let connection = Connection::builder().uri(url).connection_name("HopMQ quickstart").open().await?;
    let broker = connection.server_properties();
    let property = |key| broker.get(key).and_then(|value| value.as_str()).unwrap_or("?");
    println!("Connected to {} {}.", property("product"), property("version"));

    let channel = connection.channel().await?;
    let queue = channel.queue("hopmq-quickstart").durable().declare().await?;
    queue.purge().await?;

    let time = publish(&queue).await?;
    report("published and confirmed", time);
    let time = consume(&queue).await?;
    report("consumed and acknowledged", time);

    queue.delete().await?;
    connection.close().await
}

async fn publish(queue: &Queue) -> hopmq::Result<Duration> {
    let mut progress = Progress::new("publishing");
    let mut unconfirmed = VecDeque::with_capacity(WINDOW);
    for _ in 0..MESSAGES {
        if unconfirmed.len() == WINDOW
            && let Some(oldest) = unconfirmed.pop_front()
        {
            confirmed(oldest, &mut progress).await?;
        }
        unconfirmed.push_back(queue.publish(&BODY).confirm_later().await?);
    }
    for confirm in unconfirmed {
        confirmed(confirm, &mut progress).await?;
    }
    Ok(progress.finish())
}

async fn confirmed(confirm: hopmq::Confirm, progress: &mut Progress) -> hopmq::Result<()> {
    confirm.await?;
    progress.step();
    Ok(())
}

async fn consume(queue: &Queue) -> hopmq::Result<Duration> {
    let mut progress = Progress::new("consuming");
    let mut consumer = queue.consume().prefetch(1_000).await?;
    while progress.done < MESSAGES
        && let Some(delivery) = consumer.try_next().await?
    {
        delivery.ack()?;
        progress.step();
    }
    // Acks have no reply. The reply to this request tells that the broker has them all.
    consumer.cancel().await?;
    Ok(progress.finish())
}

fn report(action: &str, time: Duration) {
    let rate = MESSAGES as f64 / time.as_secs_f64();
    println!("{MESSAGES} messages of {} bytes {action} in {time:.2?}: {rate:.0} a second", BODY.len());
}

fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Config => Some("AMQP_URL should look like amqp://user:password@host:5672/vhost"),
        ErrorKind::Io | ErrorKind::Timeout => Some(
            "Set AMQP_URL to the broker's address, amqp://user:password@host:5672/vhost, \
             or unset it to use a broker within this program.",
        ),
        ErrorKind::Authentication | ErrorKind::ConnectionClosed => {
            Some("Check user, password and virtual host in AMQP_URL: amqp://user:password@host:5672/vhost")
        }
        _ => None,
    }
}

/// Shows a bar on a terminal, and a line for each quarter elsewhere.
struct Progress {
    label: &'static str,
    done: u64,
    start: Instant,
    is_terminal: bool,
}

impl Progress {
    fn new(label: &'static str) -> Self {
        Self { label, done: 0, start: Instant::now(), is_terminal: stdout().is_terminal() }
    }

    fn step(&mut self) {
        self.done += 1;
        let percent = self.done * 100 / MESSAGES;
        if self.is_terminal && self.done.is_multiple_of(MESSAGES / 100) {
            let bar = "█".repeat(percent as usize / 2);
            print!("\r{:<10} {bar:░<50} {percent:>3} %", self.label);
            // A failed flush only delays the bar.
            stdout().flush().ok();
        } else if !self.is_terminal && self.done.is_multiple_of(MESSAGES / 4) {
            println!("{:<10} {percent:>3} %", self.label);
        }
    }

    fn finish(self) -> Duration {
        if self.is_terminal {
            println!();
        }
        self.start.elapsed()
    }
}
