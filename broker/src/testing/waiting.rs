//! Waiting for a broker, and turning its clock: what a test does between what it asks for and what it asserts.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::inspector::Inspect;
use crate::period::Period;
use crate::server::{Broker, Spawner};

/// How long to wait for what should come at once, in real time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Broker {
    /// Where clients of this program find the broker: `amqp://guest:guest@127.0.0.1:PORT/%2f`. The first call opens the
    /// port, one that the system chooses.
    ///
    /// # Panics
    /// If the system has no free port.
    pub fn uri(&self) -> String {
        let open =
            || self.listen("127.0.0.1:0").unwrap_or_else(|error| panic!("no port of 127.0.0.1 is free: {error}"));
        let address = self.0.testing.uri_listener.get_or_init(open);
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Blocks until the broker has done all that it was given: all that clients wrote is applied, and what they are to
    /// get is written. That takes microseconds, so that asynchronous callers can use it as well; of a broker that is
    /// run [by hand](crate::Builder::by_hand), it runs the steps.
    ///
    /// It is exact for connections [within the process](Broker::connect). Over TCP, what a client has written may be on
    /// its way still: await an answer of the broker's, or use [`Broker::until`].
    ///
    /// # Panics
    /// If clients give it so much to do that it does not come to rest within ten seconds.
    #[track_caller]
    pub fn settle(&self) {
        let quiet = match &self.0.executor {
            Spawner::Threads(_) => self.0.testing.activity.wait(Instant::now() + PATIENCE),
            Spawner::Hand(_) => {
                let until = Instant::now() + PATIENCE;
                while self.tick() && Instant::now() < until {}
                self.0.testing.activity.is_quiet()
            }
        };
        assert!(quiet, "the broker does not come to rest: its clients give it more and more to do");
    }

    /// Turns the broker's [manual clock](crate::Clock::manual) forward, and blocks until all is done that was to be
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
    #[track_caller]
    pub fn advance(&self, time: impl Into<Period>) {
        let clock = self.clock();
        assert!(
            clock.is_manual(),
            "the system's clock can't be turned: start the broker with `.clock(&Clock::manual())`"
        );
        let target = clock.now() + time.into().duration();
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
        if let Err(look) = self.wait_for(so).await {
            panic!("it did not come to be so: {look:#?}");
        }
    }

    async fn wait_for(&self, so: impl Fn(&Inspect) -> bool) -> Result<(), Inspect> {
        let look = self.inspect();
        let done = self.watch(PATIENCE, || if so(&look) { Ok(()) } else { Err(()) }).await;
        done.map_err(|()| look)
    }

    /// Looks whenever the broker has done something, until it is so, or `within` has passed: then it gives what the
    /// last look gave.
    async fn watch<E>(&self, within: Duration, mut look: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut deadline = async_io::Timer::after(within);
        poll_fn(|context| {
            while self.tick() {}
            // First the waker, then the look: what happens in between wakes.
            self.0.testing.activity.watch_for(context.waker());
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
    #[track_caller]
    pub fn wait_until(&self, so: impl Fn(&Inspect) -> bool) {
        if let Err(look) = async_io::block_on(self.wait_for(so)) {
            panic!("it did not come to be so: {look:#?}");
        }
    }

    /// Asserts that nothing was left open: no connection, no channel, no message that somebody holds. Waits for what is
    /// closing.
    ///
    /// # Panics
    /// If something is open after a second, and says what.
    #[track_caller]
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
