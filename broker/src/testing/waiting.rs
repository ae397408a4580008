//! Waits for a broker, and moves its clock: what a test does between its requests and its assertions.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::inspector::Inspect;
use crate::period::Period;
use crate::server::{Broker, Spawner};

/// The real time limit for what should happen at once.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Broker {
    /// Returns the URI of the broker for clients: `amqp://guest:guest@127.0.0.1:PORT/%2f`. The first call opens the
    /// port, which the system chooses.
    ///
    /// # Panics
    /// If the system has no free port.
    pub fn uri(&self) -> String {
        let open = || self.listen("127.0.0.1:0").unwrap_or_else(|error| panic!("cannot listen on 127.0.0.1: {error}"));
        let address = self.0.testing.uri_listener.get_or_init(open);
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Blocks until the broker is idle: all input of clients is applied, and all output for them is written. That takes
    /// microseconds, so that asynchronous callers may use it as well. For a broker that is driven [by
    /// hand](crate::Builder::by_hand), it runs the steps.
    ///
    /// It is exact for connections [within the process](Broker::connect). Over TCP, a client's output may still be on
    /// its way: await an answer of the broker, or use [`Broker::until`].
    ///
    /// # Panics
    /// If the broker is not idle within ten seconds, because clients keep it busy.
    #[track_caller]
    pub fn settle(&self) {
        let quiet = match &self.0.executor {
            Spawner::Threads(_) => self.0.testing.activity.wait(Instant::now() + TIMEOUT),
            Spawner::Hand(_) => {
                let until = Instant::now() + TIMEOUT;
                while self.tick() && Instant::now() < until {}
                self.0.testing.activity.is_quiet()
            }
        };
        assert!(quiet, "the broker was not idle within {TIMEOUT:?}: its clients keep it busy");
    }

    /// Moves the broker's [manual clock](crate::Clock::manual) forward, and blocks until everything due by then is
    /// done, each thing at its time: a message that expires after five seconds, and then in a dead-letter queue after
    /// three, expires there at eight, even if the clock moves by an hour.
    ///
    /// All clients count as alive, because clients on another clock can't know that heartbeats are due. To test a
    /// silent client, move [`Broker::clock`] itself.
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
    /// If the broker has the system's clock, which can't be moved, and if it is not idle in time, as for
    /// [`Broker::settle`].
    #[track_caller]
    pub fn advance(&self, time: impl Into<Period>) {
        let clock = self.clock();
        assert!(
            clock.is_manual(),
            "the system's clock can't be moved: start the broker with `.clock(&Clock::manual())`"
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

    /// Waits until a condition holds, and checks it whenever the broker has done something. Use it for the effects of
    /// other threads and programs; an operation that the caller has awaited has its effects already.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let broker = hopmq_broker::Broker::in_memory();
    /// let connection = hopmq::Connection::open(&broker.uri()).await?;
    /// connection.channel().await?.publish("", "nowhere", "lost").send().await?;
    /// connection.close().await?;
    /// broker.until(|inspector| inspector.connections().is_empty()).await;
    /// # Ok::<_, hopmq::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Dropping the future cancels the wait only.
    ///
    /// # Panics
    /// If the condition does not hold within ten seconds.
    pub async fn until(&self, condition: impl Fn(&Inspect) -> bool) {
        if let Err(inspector) = self.wait_for(condition).await {
            panic!("the condition did not hold within {TIMEOUT:?}: {inspector:#?}");
        }
    }

    async fn wait_for(&self, condition: impl Fn(&Inspect) -> bool) -> Result<(), Inspect> {
        let inspector = self.inspect();
        let done = self.watch(TIMEOUT, || if condition(&inspector) { Ok(()) } else { Err(()) }).await;
        done.map_err(|()| inspector)
    }

    /// Calls `check` whenever the broker has done something, until `check` succeeds or `within` has passed. Returns the
    /// last result.
    async fn watch<E>(&self, within: Duration, mut check: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut deadline = async_io::Timer::after(within);
        poll_fn(|context| {
            while self.tick() {}
            // The waker must be registered first, so that a change after the check wakes.
            self.0.testing.activity.watch_for(context.waker());
            match check() {
                Err(_) if Pin::new(&mut deadline).poll(context).is_pending() => Poll::Pending,
                seen => Poll::Ready(seen),
            }
        })
        .await
    }

    /// Blocks until a condition holds, as [`Broker::until`] does for asynchronous callers.
    ///
    /// # Panics
    /// If the condition does not hold within ten seconds.
    #[track_caller]
    pub fn wait_until(&self, condition: impl Fn(&Inspect) -> bool) {
        if let Err(inspector) = async_io::block_on(self.wait_for(condition)) {
            panic!("the condition did not hold within {TIMEOUT:?}: {inspector:#?}");
        }
    }

    /// Asserts that no connection is open and no delivery unsettled. Waits up to a second for closes in progress.
    ///
    /// # Panics
    /// If anything is open after a second. The message lists it.
    #[track_caller]
    pub fn assert_idle(&self) {
        let inspector = self.inspect();
        let ends = async_io::block_on(self.watch(Duration::from_secs(1), || {
            let ends = inspector.open_items();
            if ends.is_empty() { Ok(()) } else { Err(ends) }
        }));
        let ends = ends.err().unwrap_or_default();
        assert!(ends.is_empty(), "connections or deliveries are still open:\n{}", ends.join("\n"));
    }
}
