//! How long clients that recover by themselves take to come back: each publishes and consumes through a proxy of its
//! own, which breaks, or the broker behind all of them stops and starts; the time runs from when the broker can be
//! reached again to the first message that is confirmed and to the first that is delivered, both published after that.
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

/// After this long, a client has not come back.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The link is cut, and may be made again at once.
    Cut,
    /// Nobody answers for a while.
    Away,
    /// The broker is stopped and started, for all clients at once.
    Restart,
}

const FAULTS: [Fault; 3] = [Fault::Cut, Fault::Away, Fault::Restart];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "link cut",
            Self::Away => "broker away for 0.5 to 2.5 s",
            Self::Restart => "`stop_app`, `start_app`",
        }
    }
}

/// How long nobody answers: another time in each round, for no client's fixed delays to fit it, spread evenly.
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
    lost: [usize; FAULTS.len()],
}

impl Contender {
    async fn start(client: Client, user: &str, broker: &Broker, vhost: &str) -> Result<Self> {
        let proxy = Proxy::start(&broker.address).await?;
        let url = format!("{user}@{}/{vhost}", proxy.address());
        let queue = format!("bench-recovery-{}-{}", client.name(), std::process::id());
        let log = Arc::new(Log::default());
        let task = client.spawn(&url, &queue, &log);
        Ok(Self { client, proxy, log, url, queue, task, times: Default::default(), lost: Default::default() })
    }

    /// Breaks the link of this one alone.
    async fn break_link(&mut self, fault: Fault, round: usize) -> Result<()> {
        self.flows().await?;
        if fault == Fault::Away {
            self.proxy.set_down(true);
        }
        self.proxy.cut();
        if fault == Fault::Away {
            tokio::time::sleep(away(round)).await;
        }
        self.log.begin();
        self.proxy.set_down(false);
        self.note(fault, Instant::now() + LIMIT).await;
        Ok(())
    }

    /// Waits until it is back, and begins anew if it does not come.
    async fn note(&mut self, fault: Fault, deadline: Instant) {
        match tokio::time::timeout_at(deadline, self.log.both()).await {
            Ok(times) => self.times[fault as usize].push(times),
            Err(_) => {
                self.lost[fault as usize] += 1;
                self.task.abort();
                self.log = Arc::new(Log::default());
                self.task = self.client.spawn(&self.url, &self.queue, &self.log);
            }
        }
    }

    /// Waits until messages flow.
    async fn flows(&self) -> Result<()> {
        self.log.begin();
        let flows = tokio::time::timeout(LIMIT, self.log.both()).await;
        flows.map(drop).map_err(|_| format!("{} does not get going", self.client.name()).into())
    }

    fn report(&self, fault: Fault, text: &mut String) -> std::fmt::Result {
        let (times, lost) = (&self.times[fault as usize], self.lost[fault as usize]);
        let of = |pick: fn(&(f64, f64)) -> f64| {
            let mut times: Vec<f64> = times.iter().map(pick).collect();
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().max(1) - 1));
            let show = |time: Option<&f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
            format!("{} | {}", show(at(0.5)), show(at(0.99)))
        };
        let (confirmed, delivered, rounds) = (of(|times| times.0), of(|times| times.1), times.len() + lost);
        let (fault, client) = (fault.name(), self.client.name());
        writeln!(text, "| {fault} | {client} | {confirmed} | {delivered} | {} of {rounds} |", times.len())
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
                contender.break_link(fault, round).await?;
            }
        }
        for contender in &contenders {
            contender.flows().await?;
        }
        broker.restart(|| contenders.iter().for_each(|contender| contender.log.begin())).await?;
        let deadline = Instant::now() + LIMIT;
        for contender in &mut contenders {
            contender.note(Fault::Restart, deadline).await;
        }
    }
    let mut text = String::from(
        "| fault | client | confirmed again, p50 ms | p99 | delivered again, p50 ms | p99 | came back |\n\
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
