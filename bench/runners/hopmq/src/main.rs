//! HopMQ, measured: `--mode driver-thread` (`open`), `own-driver` (`connect`, driver and work on one thread) and
//! `tokio` (`open_tokio`).

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::iter;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

use async_executor::Executor;
use bench_harness::{Args, Channel, Client, Consumer, Outcome, Result, Runtime, Workload, run, run_on_tokio};
use bytes::Bytes;
use futures_lite::{StreamExt, future};
use hopmq::tls::Tls;
use hopmq::{
    AnyTransport, Builder, Confirm, Confirms, Connection, Delivery, Driver, HostConnector, Reactor, ReactorHandle,
    ReactorTimer,
};

pub fn main() -> ExitCode {
    bench_harness::main("hopmq", |args| match args.mode.as_deref() {
        None | Some("driver-thread") => on_this_thread::<DriverThread>(args),
        Some("own-driver") => on_this_thread::<OwnDriver>(args),
        Some("tokio") => run_on_tokio::<Peer<Tokio>>(args),
        Some(mode) => Err(format!("unknown mode {mode}").into()),
    })
}

/// Runs the tasks of a workload with several.
static EXECUTOR: Executor<'static> = Executor::new();
/// The reactor of the mode `own-driver`.
static REACTOR: OnceLock<ReactorHandle> = OnceLock::new();
/// The drivers of the mode `own-driver`, which the main thread polls together with the work.
static DRIVERS: Mutex<Vec<Driver<AnyTransport, ReactorTimer, HostConnector>>> = Mutex::new(Vec::new());

fn on_this_thread<M: Mode>(args: &Args) -> Result<Outcome> {
    let runtime = ThisThread { many: args.tasks > 1 || has_many_connections(args) };
    let work = run::<Peer<M>>(&runtime, args);
    M::block_on(async { if runtime.many { EXECUTOR.run(work).await } else { work.await } })
}

/// Whether a task for each driver costs less than polling all drivers after each event.
fn has_many_connections(args: &Args) -> bool {
    matches!(args.workload, Workload::IdleConnections | Workload::PublishConnections)
}

/// Runs a single task on the main thread, and several on the executor.
struct ThisThread {
    many: bool,
}

impl Runtime for ThisThread {
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> {
        let task = if self.many { Ok(EXECUTOR.spawn(task)) } else { Err(task) };
        async {
            match task {
                Ok(spawned) => spawned.await,
                Err(own) => own.await,
            }
        }
    }
}

/// How the connection is driven.
trait Mode: Send + Sync + 'static {
    fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
        future::block_on(work)
    }

    fn open(builder: Builder, args: &Args) -> impl Future<Output = hopmq::Result<Connection>> + Send;
}

struct DriverThread;
struct OwnDriver;
struct Tokio;

impl Mode for DriverThread {
    async fn open(builder: Builder, _: &Args) -> hopmq::Result<Connection> {
        builder.open().await
    }
}

impl Mode for OwnDriver {
    fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut reactor = Reactor::new()?;
        REACTOR.get_or_init(|| reactor.handle());
        let mut work = pin!(work);
        reactor.block_on(poll_fn(|context| {
            let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
            drivers.retain_mut(|driver| Pin::new(driver).poll(context).is_pending());
            drop(drivers);
            work.as_mut().poll(context)
        }))
    }

    async fn open(builder: Builder, args: &Args) -> hopmq::Result<Connection> {
        let (connection, driver) = builder.connect_on(REACTOR.wait()).await?;
        if has_many_connections(args) {
            EXECUTOR.spawn(driver).detach();
        } else {
            DRIVERS.lock().unwrap_or_else(PoisonError::into_inner).push(driver);
        }
        Ok(connection)
    }
}

impl Mode for Tokio {
    async fn open(builder: Builder, _: &Args) -> hopmq::Result<Connection> {
        builder.open_tokio().await
    }
}

struct Peer<M>(Connection, PhantomData<M>);

#[derive(Clone)]
struct PeerChannel(hopmq::Channel);

struct PeerConsumer(hopmq::Consumer);

impl<M: Mode> Client for Peer<M> {
    type Channel = PeerChannel;

    async fn connect(args: &Args) -> Result<Self> {
        let mut builder = Connection::builder().uri(&args.url);
        if let Some(limit) = args.spin {
            builder = builder.spin(limit);
        }
        if let Some(ca) = &args.ca {
            builder = builder.tls(Tls::new().root_file(ca));
        }
        Ok(Self(M::open(builder, args).await?, PhantomData))
    }

    async fn channel(&self) -> Result<PeerChannel> {
        Ok(PeerChannel(self.0.channel().await?))
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl Channel for PeerChannel {
    type Confirm = Confirm;
    type Consumer = PeerConsumer;

    /// Does nothing: the first confirmed publish selects confirms.
    async fn confirm_select(&self) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, queue: &str, body: &Bytes) -> Result<()> {
        Ok(self.0.publish("", queue, body).send().await?)
    }

    async fn publish_prepared(&self, queue: &str, body: &Bytes, count: u64) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        for _ in 0..count {
            publisher.publish(body).send().await?;
        }
        Ok(())
    }

    async fn publish_many(&self, queue: &str, body: &Bytes, count: u64, batch: usize) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut left = count as usize;
        while left > 0 {
            let many = batch.min(left);
            publisher.publish_many(iter::repeat_n(body, many)).send().await?;
            left -= many;
        }
        Ok(())
    }

    async fn publish_many_confirm(
        &self,
        queue: &str,
        body: &Bytes,
        count: u64,
        (batch, calls): (usize, usize),
    ) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut waiting = VecDeque::with_capacity(calls);
        let mut left = count as usize;
        while left > 0 {
            if waiting.len() == calls
                && let Some(oldest) = waiting.pop_front()
            {
                let oldest: Confirms = oldest;
                oldest.await?;
            }
            let many = batch.min(left);
            waiting.push_back(publisher.publish_many(iter::repeat_n(body, many)).confirm_later().await?);
            left -= many;
        }
        for confirms in waiting {
            confirms.await?;
        }
        Ok(())
    }

    async fn publish_windowed(&self, queue: &str, body: &Bytes, count: u64, window: usize) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut waiting = VecDeque::with_capacity(window);
        for _ in 0..count {
            if waiting.len() == window
                && let Some(oldest) = waiting.pop_front()
            {
                let oldest: Confirm = oldest;
                oldest.await?;
            }
            waiting.push_back(publisher.publish(body).confirm_later().await?);
        }
        for confirm in waiting {
            confirm.await?;
        }
        Ok(())
    }

    async fn consume_batches(&self, queue: &str, count: u64, batch: usize) -> Result<()> {
        let mut batches = self.0.consume(queue).start().await?.batches().max_count(batch);
        let mut left = count;
        while left > 0 {
            let batch = batches.try_next().await?.ok_or("the consumer ended")?;
            left = left.saturating_sub(batch.len() as u64);
            batch.ack_all()?;
        }
        Ok(())
    }

    async fn publish_confirm(&self, queue: &str, body: &Bytes) -> Result<Confirm> {
        Ok(self.0.publish("", queue, body).confirm_later().await?)
    }

    async fn confirmed(&self, confirm: Confirm) -> Result<()> {
        Ok(confirm.await?)
    }

    async fn declare(&self, queue: &str) -> Result<u32> {
        Ok(self.0.queue(queue).declare_passive().await?.message_count())
    }

    async fn prefetch(&self, count: u16) -> Result<()> {
        Ok(self.0.prefetch(count).await?)
    }

    async fn consume(&self, queue: &str, no_ack: bool) -> Result<PeerConsumer> {
        let consume = self.0.consume(queue);
        let consume = if no_ack { consume.no_ack() } else { consume };
        Ok(PeerConsumer(consume.start().await?))
    }
}

impl Consumer for PeerConsumer {
    type Delivery = Delivery;

    async fn next(&mut self) -> Result<Delivery> {
        Ok(self.0.try_next().await?.ok_or("the consumer ended")?)
    }

    async fn ack(&mut self, delivery: Delivery, multiple: bool) -> Result<()> {
        if multiple {
            delivery.ack_multiple()?;
        } else {
            delivery.ack()?;
        }
        Ok(())
    }
}
