//! How long clients with automatic recovery take to reconnect. Each publishes and consumes through a proxy of its own.
//! Either the proxy breaks, or the broker behind all proxies stops and starts. The time runs from the moment when the
//! broker can be reached again to the first confirm and the first delivery of messages published after it.
//!
//! ```text
//! bench-recovery amqp://guest:guest@HOST:PORT/%2f RABBITMQCTL ROUNDS
//! ```

mod broker;
mod clients;
mod log;
mod proxy;

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use broker::Broker;
use clients::Client;
use log::Log;
use proxy::Proxy;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The time that a client may take to recover.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The connection is cut, and can be made again at once.
    Cut,
    /// The broker cannot be reached for a while.
    Away,
    /// The broker stops and starts, for all clients at once.
    Restart,
}

const FAULTS: [Fault; 3] = [Fault::Cut, Fault::Away, Fault::Restart];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "connection cut",
            Self::Away => "broker away for 0.5 to 2.5 s",
            Self::Restart => "`stop_app`, `start_app`",
        }
    }
}

/// How long the broker cannot be reached. The times are spread evenly over the rounds, so that they favour no client's
/// fixed delays.
fn away(round: usize) -> Duration {
    let golden = 0.618_033_988_749_895;
    Duration::from_secs_f64(0.5 + 2.0 * (round as f64 * golden).fract())
}

/// A client at work.
struct Contender {
    client: Client,
    proxy: Proxy,
    log: Arc<Log>,
    url: String,
    queue: String,
    task: JoinHandle<()>,
    times: [Vec<(f64, f64)>; FAULTS.len()],
    failures: [usize; FAULTS.len()],
}

impl Contender {
    async fn start(client: Client, user: &str, broker: &Broker, vhost: &str) -> Result<Self> {
        let proxy = Proxy::start(&broker.address).await?;
        let url = format!("{user}@{}/{vhost}", proxy.address());
        let queue = format!("bench-recovery-{}-{}", client.name(), std::process::id());
        let log = Arc::new(Log::default());
        let task = client.spawn(&url, &queue, &log);
        Ok(Self { client, proxy, log, url, queue, task, times: Default::default(), failures: Default::default() })
    }

    /// Breaks the connection of this client.
    async fn break_connection(&mut self, fault: Fault, round: usize) -> Result<()> {
        self.await_flow().await?;
        if fault == Fault::Away {
            self.proxy.set_down(true);
        }
        self.proxy.cut();
        if fault == Fault::Away {
            tokio::time::sleep(away(round)).await;
        }
        self.log.begin();
        self.proxy.set_down(false);
        self.await_recovery(fault, Instant::now() + TIMEOUT).await;
        Ok(())
    }

    /// Waits until the client has recovered. Restarts it if it does not.
    async fn await_recovery(&mut self, fault: Fault, deadline: Instant) {
        match tokio::time::timeout_at(deadline, self.log.both()).await {
            Ok(times) => self.times[fault as usize].push(times),
            Err(_) => {
                self.failures[fault as usize] += 1;
                self.task.abort();
                self.log = Arc::new(Log::default());
                self.task = self.client.spawn(&self.url, &self.queue, &self.log);
            }
        }
    }

    /// Waits until messages flow.
    async fn await_flow(&self) -> Result<()> {
        self.log.begin();
        let flow = tokio::time::timeout(TIMEOUT, self.log.both()).await;
        flow.map(drop).map_err(|_| format!("{}: no message within {} s", self.client.name(), TIMEOUT.as_secs()).into())
    }

    fn report(&self, fault: Fault, text: &mut String) -> std::fmt::Result {
        let times = &self.times[fault as usize];
        let rounds = times.len() + self.failures[fault as usize];
        let of = |pick: fn(&(f64, f64)) -> f64| {
            let mut times: Vec<f64> = times.iter().map(pick).collect();
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().max(1) - 1));
            let show = |time: Option<&f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
            format!("{} | {}", show(at(0.5)), show(at(0.99)))
        };
        let confirmed = of(|times| times.0);
        let delivered = of(|times| times.1);
        let recovered = times.len();
        let client = self.client.name();
        writeln!(text, "| {} | {client} | {confirmed} | {delivered} | {recovered} of {rounds} |", fault.name())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ctl, rounds] = &arguments[..] else { return Err("usage: bench-recovery URL RABBITMQCTL ROUNDS".into()) };
    let rounds: usize = rounds.parse()?;
    let (user, rest) = url.rsplit_once('@').ok_or("the URL has no user")?;
    let (address, vhost) = rest.split_once('/').ok_or("the URL has no virtual host")?;
    let broker = Broker::new(address, ctl);
    let mut contenders = Vec::new();
    for client in [Client::Hopmq, Client::Lapin, Client::Amqp] {
        contenders.push(Contender::start(client, user, &broker, vhost).await?);
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for fault in [Fault::Cut, Fault::Away] {
            for contender in &mut contenders {
                contender.break_connection(fault, round).await?;
            }
        }
        for contender in &contenders {
            contender.await_flow().await?;
        }
        broker.restart(|| contenders.iter().for_each(|contender| contender.log.begin())).await?;
        let deadline = Instant::now() + TIMEOUT;
        for contender in &mut contenders {
            contender.await_recovery(Fault::Restart, deadline).await;
        }
    }
    let mut text = String::from(
        "| fault | client | confirmed again, p50 ms | p99 | delivered again, p50 ms | p99 | recovered |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for fault in FAULTS {
        for contender in &contenders {
            contender.report(fault, &mut text)?;
        }
    }
    print!("{text}");
    Ok(())
}
