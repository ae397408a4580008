//! The well-behaved client: it publishes at a steady pace, awaits each confirm, and consumes what it published.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hopmq_proto::method::{Encode, Method, basic, confirm, queue};
use hopmq_proto::{Kind, Properties};

use crate::wire::Wire;
use crate::{Door, Result};

/// The queue of the neighbour.
pub(crate) const QUEUE: &str = "neighbour";
/// The size of a body in bytes. It begins with the number of the message.
const BODY: usize = 100;

/// A running client.
#[derive(Debug)]
pub struct Neighbour {
    shared: Arc<Shared>,
    thread: JoinHandle<Report>,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    stop: bool,
    /// Messages that were confirmed.
    confirmed: u64,
    ended: bool,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.changed.notify_all();
    }

    /// Waits until a message is due. Returns whether it is still wanted.
    fn pace(&self, due: Instant) -> bool {
        let wait = due.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.progress(), wait, |progress| !progress.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}

/// What the client saw.
#[derive(Debug, Default)]
pub struct Report {
    /// The times from messages to their confirms. Each message that was due while another was awaited counts as well,
    /// from when it was due.
    latencies: Vec<Duration>,
    /// How long `connection.blocked` held. Messages of that time are not among the latencies.
    pub blocked: Duration,
    /// Messages that were confirmed and not delivered.
    pub lost: u64,
    /// Why the client ended early.
    pub failure: Option<String>,
}

impl Report {
    /// Returns the latency that 99 of 100 messages kept.
    pub fn p99(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Notes the time to a confirm, and those of the messages that were due meanwhile.
    fn waited(&mut self, mut time: Duration, pace: Duration) {
        self.latencies.push(time);
        while let Some(rest) = time.checked_sub(pace).filter(|rest| !rest.is_zero()) {
            self.latencies.push(rest);
            time = rest;
        }
    }

    /// Returns the longest latency.
    pub fn max(&self) -> Duration {
        self.latencies.iter().max().copied().unwrap_or_default()
    }

    /// Returns how many messages were confirmed.
    pub fn confirmed(&self) -> usize {
        self.latencies.len()
    }
}

impl Neighbour {
    /// Connects, and begins to publish every `pace`.
    ///
    /// # Errors
    /// If the client cannot connect.
    pub fn start(door: &Door, pace: Duration, durable: bool) -> Result<Self> {
        let mut wire = Wire::open(door)?;
        wire.channel(1)?;
        let declare = queue::Declare { queue: QUEUE, durable: true, ..Default::default() };
        wire.ask(1, &declare, queue::DeclareOk::ID)?;
        wire.ask(1, &confirm::Select { nowait: false }, confirm::SelectOk::ID)?;
        wire.ask(1, &basic::Consume { queue: QUEUE, ..Default::default() }, basic::ConsumeOk::ID)?;
        let shared = Arc::new(Shared::default());
        let properties = if durable { Properties::new().with_persistent() } else { Properties::default() };
        let client = Client {
            wire,
            properties,
            shared: Arc::clone(&shared),
            report: Report::default(),
            published: 0,
            delivered: 0,
            blocked: None,
        };
        let thread = thread::Builder::new().name("neighbour".into()).spawn(move || client.run(pace))?;
        let neighbour = Self { shared, thread };
        neighbour.awaits(20);
        Ok(neighbour)
    }

    /// Waits until this many more messages were confirmed, or the client has ended.
    pub fn awaits(&self, messages: u64) {
        let progress = self.shared.progress();
        let until = progress.confirmed + messages;
        let is_early = |progress: &mut Progress| progress.confirmed < until && !progress.ended;
        drop(self.shared.changed.wait_while(progress, is_early));
    }

    /// Stops to publish, and returns what the client saw once everything confirmed was delivered.
    pub fn stop(self) -> Report {
        self.shared.change(|progress| progress.stop = true);
        self.thread.join().unwrap_or_else(|_| Report { failure: Some("it panicked".into()), ..Report::default() })
    }
}

struct Client {
    wire: Wire,
    properties: Properties,
    shared: Arc<Shared>,
    report: Report,
    published: u64,
    delivered: u64,
    /// Since when the broker has blocked publishers.
    blocked: Option<Instant>,
}

impl Client {
    fn run(mut self, pace: Duration) -> Report {
        let ended = self.publish(pace).and_then(|()| self.drain());
        self.shared.change(|progress| progress.ended = true);
        self.report.lost = self.published - self.delivered;
        if let Err(error) = ended {
            self.report.failure = Some(error.to_string());
        }
        self.report
    }

    fn publish(&mut self, pace: Duration) -> Result {
        let mut due = Instant::now();
        while self.shared.pace(due) {
            let (was_blocked, begin) = (self.report.blocked, Instant::now());
            let mut body = [0; BODY];
            body[..8].copy_from_slice(&self.published.to_be_bytes());
            self.wire.publish(1, ("", QUEUE), &self.properties, &body)?;
            self.published += 1;
            let sent = self.wire.flush().and_then(|()| self.confirmed(self.published));
            if let Err(error) = sent {
                // Those that are due waited as long as that, at least.
                self.report.waited(begin.elapsed(), pace);
                return Err(error);
            }
            if self.report.blocked == was_blocked {
                self.report.waited(begin.elapsed(), pace);
            }
            due = Instant::now().max(due + pace);
            self.shared.change(|progress| progress.confirmed += 1);
        }
        Ok(())
    }

    /// Reads up to the confirm of a message.
    fn confirmed(&mut self, tag: u64) -> Result {
        while self.event()? != Some(tag) {}
        Ok(())
    }

    /// Reads what was not delivered yet.
    fn drain(&mut self) -> Result {
        while self.delivered < self.published {
            self.event()?;
        }
        self.wire.flush()
    }

    /// Reads a frame. Returns the tag if it is a confirm.
    fn event(&mut self) -> Result<Option<u64>> {
        let frame = self.wire.next()?;
        if frame.kind == Kind::Body {
            let number = frame.payload.first_chunk().map(|number| u64::from_be_bytes(*number));
            if number != Some(self.delivered) {
                return Err(format!("message {number:?} was delivered in place of {}", self.delivered).into());
            }
            self.delivered += 1;
            return Ok(None);
        }
        if frame.kind != Kind::Method {
            return Ok(None);
        }
        match Method::decode(&frame.payload)? {
            Method::BasicAck(ack) => Ok(Some(ack.delivery_tag)),
            Method::BasicDeliver(deliver) => {
                self.wire.method(1, &basic::Ack { delivery_tag: deliver.delivery_tag, multiple: false });
                Ok(None)
            }
            Method::ConnectionBlocked(_) => {
                self.blocked.get_or_insert_with(Instant::now);
                Ok(None)
            }
            Method::ConnectionUnblocked(_) => {
                self.report.blocked += self.blocked.take().map_or(Duration::ZERO, |since| since.elapsed());
                Ok(None)
            }
            other => Err(format!("the neighbour received {other:?}").into()),
        }
    }
}
