//! Waiting for a broker, and turning its clock: what a test does between what it asks for and what it asserts.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::str::FromStr;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::look::Inspect;
use super::{Broker, Spawner};

/// How long to wait for what should come at once, in real time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A time: a [`Duration`], or a text of numbers with units, such as `"10m"`, `"1h30m"`, `"2d"`, `"250ms"`, `"1.5s"`.
///
/// ```
/// use std::time::Duration;
/// use hopmq_broker::Period;
///
/// assert_eq!(Period::from("1h30m").duration(), Duration::from_secs(5400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(Duration);

impl Period {
    /// The same as a duration.
    pub fn duration(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Duration> {
        let mut rest = text.trim();
        let mut sum = Duration::ZERO;
        while !rest.is_empty() || sum.is_zero() && text.trim().is_empty() {
            let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
            let (number, after) = rest.split_at(digits);
            let unit = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
            let seconds = match &after[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
            let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
            sum = sum.checked_add(part)?;
            rest = after[unit..].trim_start();
        }
        Some(sum)
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = Self::parse(text).map(Self);
        read.ok_or_else(|| format!("{text:?} is no time: write \"10m\", \"1h30m\" or \"250ms\""))
    }
}

impl From<&str> for Period {
    /// # Panics
    /// If the text is no time: it is the test that is wrong then.
    #[track_caller]
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Broker {
    /// Where clients of this program find the broker: `amqp://guest:guest@127.0.0.1:PORT/%2f`. The first call opens the
    /// port, one that the system chooses.
    ///
    /// # Panics
    /// If the system has no free port.
    pub fn uri(&self) -> String {
        let open =
            || self.listen("127.0.0.1:0").unwrap_or_else(|error| panic!("no port of 127.0.0.1 is free: {error}"));
        let address = self.0.door.get_or_init(open);
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Blocks until the broker has done all that it was given: all that clients wrote is applied, and what they are to
    /// get is written. That takes microseconds, so that asynchronous callers can use it as well; of a broker that is
    /// run [by hand](super::Builder::by_hand), it runs the steps.
    ///
    /// It is exact for connections [within the process](Broker::connect). Over TCP, what a client has written may be on
    /// its way still: await an answer of the broker's, or use [`Broker::until`].
    ///
    /// # Panics
    /// If clients give it so much to do that it does not come to rest within ten seconds.
    pub fn settle(&self) {
        let quiet = match &self.0.executor {
            Spawner::Threads(_) => self.0.activity.wait(Instant::now() + PATIENCE),
            Spawner::Hand(_) => {
                let until = Instant::now() + PATIENCE;
                while self.tick() && Instant::now() < until {}
                self.0.activity.is_quiet()
            }
        };
        assert!(quiet, "the broker does not come to rest: its clients give it more and more to do");
    }

    /// Turns the broker's [manual clock](super::Clock::manual) forward, and blocks until all is done that was to be
    /// done by then, each thing at its moment: what expires after five seconds and then lives for three somewhere else
    /// has lived eight, however far the clock is turned.
    ///
    /// Connections count as alive meanwhile, for a client that goes by another clock does not know that it should have
    /// sent heartbeats. To see what happens to one that is silent, turn [`Broker::clock`] itself.
    ///
    /// ```
    /// use hopmq_broker::{Broker, Clock};
    ///
    /// let broker = Broker::builder().clock(&Clock::manual()).start();
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let queue = connection.channel()?.queue("orders").argument("x-message-ttl", 600_000).declare()?;
    /// queue.publish("a pizza").confirm()?;
    /// broker.advance("9m59s");
    /// assert_eq!(broker.inspect().ready("orders").len(), 1);
    /// broker.advance("1s");
    /// assert!(broker.inspect().ready("orders").is_empty());
    /// # connection.close()?;
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the broker goes by the system's clock, which nobody can turn, and as [`Broker::settle`].
    pub fn advance(&self, time: impl Into<Period>) {
        let clock = self.clock();
        assert!(
            clock.is_manual(),
            "the system's clock can't be turned: start the broker with `.clock(&Clock::manual())`"
        );
        let target = clock.now() + time.into().0;
        loop {
            self.settle();
            let next = clock.next_alarm().filter(|next| *next < target).unwrap_or(target);
            self.0.shared.lock().engine.all_alive(next);
            clock.set(next);
            if next == target {
                return self.settle();
            }
        }
    }

    /// Waits until something is so in the broker, looking whenever it has done something. For what comes from another
    /// thread or program; what this one has awaited is so already.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let broker = hopmq_broker::Broker::in_memory();
    /// let connection = hopmq::Connection::open(&broker.uri()).await?;
    /// connection.channel().await?.publish("", "nowhere", "lost").send().await?;
    /// connection.close().await?;
    /// broker.until(|look| look.connections().is_empty()).await;
    /// # Ok::<_, hopmq::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Dropping the future only ends the wait.
    ///
    /// # Panics
    /// If it is not so within ten seconds.
    pub async fn until(&self, so: impl Fn(&Inspect) -> bool) {
        let look = self.inspect();
        let done = self.watch(PATIENCE, || if so(&look) { Ok(()) } else { Err(()) }).await;
        assert!(done.is_ok(), "it did not come to be so: {look:#?}");
    }

    /// Waits until all connections are gone, at most so long.
    pub(super) async fn wait_until_empty(&self, within: Duration) {
        let look = self.inspect();
        let is_empty = || if look.counts().connections == 0 { Ok(()) } else { Err(()) };
        // Who does not go by then is left.
        let _ = self.watch(within, is_empty).await;
    }

    /// Looks whenever the broker has done something, until it is so, or `within` has passed: then it gives what the
    /// last look gave.
    async fn watch<E>(&self, within: Duration, mut look: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut deadline = async_io::Timer::after(within);
        poll_fn(|context| {
            while self.tick() {}
            // First the waker, then the look: what happens in between wakes.
            self.0.activity.watch_for(context.waker());
            match look() {
                Err(_) if Pin::new(&mut deadline).poll(context).is_pending() => Poll::Pending,
                seen => Poll::Ready(seen),
            }
        })
        .await
    }

    /// [`Broker::until`] for callers without `async`: blocks.
    ///
    /// # Panics
    /// If it is not so within ten seconds.
    pub fn wait_until(&self, so: impl Fn(&Inspect) -> bool) {
        async_io::block_on(self.until(so));
    }

    /// Asserts that nothing was left open: no connection, no channel, no message that somebody holds. Waits for what is
    /// closing.
    ///
    /// # Panics
    /// If something is open after a second, and says what.
    pub fn assert_idle(&self) {
        let look = self.inspect();
        let ends = async_io::block_on(self.watch(Duration::from_secs(1), || {
            let ends = look.open_ends();
            if ends.is_empty() { Ok(()) } else { Err(ends) }
        }));
        let ends = ends.err().unwrap_or_default();
        assert!(ends.is_empty(), "not everything was closed:\n{}", ends.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_spoken() {
        for (text, milliseconds) in
            [("10m", 600_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5s", 1500), ("2d 1s", 172_801_000), ("0s", 0)]
        {
            assert_eq!(Period::from(text).0, Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "10", "m", "ten minutes", "1m2", "-1s", "1e5s"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }
}
