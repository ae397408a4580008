//! The workloads for asynchronous clients, written once so that each client does the same work. Static dispatch
//! compiles them for each runner, so nothing stands between the client and the clock.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Ack, Args, Latencies, Meter, Outcome, Pace, Result, Workload, heap_bytes, unsupported};

/// Batches that wait for their confirms at a time.
pub(crate) const CALLS: usize = 10;

/// A connection of the measured client.
pub trait Client: Sized + Send + Sync + 'static {
    type Channel: Channel;
    fn connect(args: &Args) -> impl Future<Output = Result<Self>> + Send;
    fn channel(&self) -> impl Future<Output = Result<Self::Channel>> + Send;
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

/// A channel. Clones refer to the same channel.
pub trait Channel: Clone + Send + Sync + 'static {
    type Confirm: Send;
    type Consumer: Consumer;
    fn confirm_select(&self) -> impl Future<Output = Result<()>> + Send;
    fn publish(&self, queue: &str, body: &Bytes) -> impl Future<Output = Result<()>> + Send;
    /// Publishes `count` messages by a publisher that encodes their properties and route once.
    fn publish_prepared(&self, _queue: &str, _body: &Bytes, _count: u64) -> impl Future<Output = Result<()>> + Send {
        async { unsupported("the client prepares no publishes") }
    }
    /// Publishes `count` messages, `batch` in a call.
    fn publish_many(
        &self,
        _queue: &str,
        _body: &Bytes,
        _count: u64,
        _batch: usize,
    ) -> impl Future<Output = Result<()>> + Send {
        async { unsupported("the client publishes no batches") }
    }
    /// Publishes `count` confirmed messages, `batch` in a call, at most `calls` of them unconfirmed at a time.
    fn publish_many_confirm(
        &self,
        _queue: &str,
        _body: &Bytes,
        _count: u64,
        (_batch, _calls): (usize, usize),
    ) -> impl Future<Output = Result<()>> + Send {
        async { unsupported("the client publishes no batches") }
    }
    /// Takes `count` deliveries in batches of at most `batch`, and acknowledges each batch.
    fn consume_batches(&self, _queue: &str, _count: u64, _batch: usize) -> impl Future<Output = Result<()>> + Send {
        async { unsupported("the client hands out no batches") }
    }
    /// Publishes. [`confirmed`](Channel::confirmed) waits for the confirm.
    fn publish_confirm(&self, queue: &str, body: &Bytes) -> impl Future<Output = Result<Self::Confirm>> + Send;
    fn confirmed(&self, confirm: Self::Confirm) -> impl Future<Output = Result<()>> + Send;
    /// Publishes `count` messages with at most `window` unconfirmed, and waits for all confirms.
    fn publish_windowed(
        &self,
        queue: &str,
        body: &Bytes,
        count: u64,
        window: usize,
    ) -> impl Future<Output = Result<()>> + Send {
        async move {
            let mut waiting = VecDeque::with_capacity(window);
            for _ in 0..count {
                if waiting.len() == window
                    && let Some(oldest) = waiting.pop_front()
                {
                    self.confirmed(oldest).await?;
                }
                waiting.push_back(self.publish_confirm(queue, body).await?);
            }
            for confirm in waiting {
                self.confirmed(confirm).await?;
            }
            Ok(())
        }
    }
    /// Declares the queue passively, and returns its message count.
    fn declare(&self, queue: &str) -> impl Future<Output = Result<u32>> + Send;
    fn prefetch(&self, count: u16) -> impl Future<Output = Result<()>> + Send;
    fn consume(&self, queue: &str, no_ack: bool) -> impl Future<Output = Result<Self::Consumer>> + Send;
}

pub trait Consumer: Send + 'static {
    type Delivery: Send;
    fn next(&mut self) -> impl Future<Output = Result<Self::Delivery>> + Send;
    fn ack(&mut self, delivery: Self::Delivery, multiple: bool) -> impl Future<Output = Result<()>> + Send;
}

/// Runs tasks.
pub trait Runtime {
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>>;
}

/// Runs the workload of `args`.
pub async fn run<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    match args.workload {
        Workload::Publish
        | Workload::PublishPrepared
        | Workload::PublishMany
        | Workload::PublishConfirm
        | Workload::PublishManyConfirm => publish::<C>(runtime, args).await,
        Workload::PublishConnections => publish_connections::<C>(runtime, args).await,
        Workload::ConsumeAckEach | Workload::ConsumeAckMultiple | Workload::ConsumeNoAck | Workload::Handle => {
            consume::<C>(runtime, args).await
        }
        Workload::ConsumeBatches => consume_batches::<C>(runtime, args).await,
        Workload::Rpc => rpc::<C>(runtime, args).await,
        Workload::Latency => latency::<C>(args).await,
        Workload::IdleConnections => idle::<C>(args).await,
        Workload::Connect => connect::<C>(args).await,
        Workload::SlowConsumer => slow::<C>(args).await,
        Workload::Prepare => unsupported("only the bare loop prepares queues"),
    }
}

async fn publish<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    let confirm = matches!(args.workload, Workload::PublishConfirm | Workload::PublishManyConfirm);
    let client = C::connect(args).await?;
    let mut channels = Vec::new();
    for _ in 0..args.channels {
        let channel = client.channel().await?;
        if confirm {
            channel.confirm_select().await?;
        }
        channels.push(channel);
    }
    let before = channels[0].declare(&args.queue).await?;
    let body = Bytes::from(args.body());
    let args = Arc::new(args.clone());
    let meter = Meter::start()?;
    let tasks: Vec<_> = (0..args.tasks)
        .map(|task| {
            let channel = channels[task % channels.len()].clone();
            let body = body.clone();
            let args = args.clone();
            runtime.spawn(async move {
                let count = args.share(task);
                let window = (args.window / args.tasks).max(1);
                match args.workload {
                    Workload::PublishConfirm => {
                        channel.publish_windowed(&args.queue, &body, count, window).await?;
                    }
                    Workload::PublishManyConfirm => {
                        let batches = (window.div_ceil(CALLS), CALLS);
                        channel.publish_many_confirm(&args.queue, &body, count, batches).await?;
                    }
                    Workload::PublishPrepared => channel.publish_prepared(&args.queue, &body, count).await?,
                    Workload::PublishMany => channel.publish_many(&args.queue, &body, count, window).await?,
                    _ => {
                        for _ in 0..count {
                            channel.publish(&args.queue, &body).await?;
                        }
                    }
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let seen = channels[0].declare(&args.queue).await?;
    let outcome = meter.finish(args.count)?.seen(seen.saturating_sub(before));
    client.close().await?;
    Ok(outcome)
}

async fn publish_connections<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    let mut clients = Vec::with_capacity(args.connections);
    let mut channels = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        let client = C::connect(args).await?;
        channels.push(client.channel().await?);
        clients.push(client);
    }
    let body = Bytes::from(args.body());
    let meter = Meter::start()?;
    let tasks: Vec<_> = channels
        .into_iter()
        .enumerate()
        .map(|(task, channel)| {
            let (count, window, queue, body) = (args.share(task), args.window as u64, args.queue.clone(), body.clone());
            runtime.spawn(async move {
                for n in 1..=count {
                    channel.publish(&queue, &body).await?;
                    if n.is_multiple_of(window) {
                        yield_now().await;
                    }
                }
                Ok((channel.declare(&queue).await?, channel))
            })
        })
        .collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await?);
    }
    let seen: u32 = done.iter().map(|(seen, _)| seen).sum();
    let outcome = meter.finish(args.count)?.seen(seen);
    for client in clients {
        client.close().await?;
    }
    drop(done);
    Ok(outcome)
}

/// Lets the other tasks of the executor run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn consume<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    let client = C::connect(args).await?;
    let channel = client.channel().await?;
    // A client may have a default of its own.
    channel.prefetch(args.prefetch).await?;
    let ack = args.ack();
    let args = args.clone();
    let task_channel = channel.clone();
    let meter = Meter::start()?;
    let outcome = runtime.spawn(async move {
        let mut consumer = task_channel.consume(&args.queue, ack == Ack::Never).await?;
        for n in 1..=args.count {
            let delivery = consumer.next().await?;
            if let Some(multiple) = ack.due(n, args.count) {
                consumer.ack(delivery, multiple).await?;
            }
        }
        // After a round trip, the acknowledgements have arrived.
        let seen = task_channel.declare(&args.queue).await?;
        let seen = if ack == Ack::Never { args.count } else { seen.into() };
        Ok(meter.finish(args.count)?.seen(seen))
    });
    let outcome = outcome.await?;
    client.close().await?;
    Ok(outcome)
}

async fn consume_batches<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    let client = C::connect(args).await?;
    let channel = client.channel().await?;
    // A client may have a default of its own.
    channel.prefetch(args.prefetch).await?;
    let args = args.clone();
    let meter = Meter::start()?;
    let outcome = runtime.spawn(async move {
        channel.consume_batches(&args.queue, args.count, args.window).await?;
        // After a round trip, the acknowledgements have arrived.
        let seen = channel.declare(&args.queue).await?;
        Ok(meter.finish(args.count)?.seen(seen))
    });
    let outcome = outcome.await?;
    client.close().await?;
    Ok(outcome)
}

async fn rpc<C: Client>(runtime: &impl Runtime, args: &Args) -> Result<Outcome> {
    let client = C::connect(args).await?;
    let channel = client.channel().await?;
    // The channel outlives the connection: some peers fail to close a connection while its channel closes.
    let task_channel = channel.clone();
    let args = args.clone();
    let work = runtime.spawn(async move {
        let meter = Meter::start()?;
        for _ in 0..args.count {
            task_channel.declare(&args.queue).await?;
        }
        meter.finish(args.count)
    });
    let outcome = work.await?;
    client.close().await?;
    drop(channel);
    Ok(outcome)
}

/// Blocks the thread between two messages, so the client must not need it then.
async fn latency<C: Client>(args: &Args) -> Result<Outcome> {
    let client = C::connect(args).await?;
    let channel = client.channel().await?;
    channel.confirm_select().await?;
    let body = Bytes::from(args.body());
    let mut latencies = Latencies::with_capacity(args.count);
    let mut pace = Pace::new(Duration::from_millis(1));
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let due = pace.wait();
        let confirm = channel.publish_confirm(&args.queue, &body).await?;
        channel.confirmed(confirm).await?;
        latencies.since(due);
    }
    let outcome = meter.finish(args.count)?.seen(args.count).latencies(latencies);
    client.close().await?;
    Ok(outcome)
}

async fn connect<C: Client>(args: &Args) -> Result<Outcome> {
    let mut latencies = Latencies::with_capacity(args.count);
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let start = Instant::now();
        let client = C::connect(args).await?;
        let _channel = client.channel().await?;
        latencies.since(start);
        client.close().await?;
    }
    Ok(meter.finish(args.count)?.latencies(latencies))
}

async fn idle<C: Client>(args: &Args) -> Result<Outcome> {
    let before = heap_bytes();
    let mut all = Vec::with_capacity(args.count as usize);
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let client = C::connect(args).await?;
        let channel = client.channel().await?;
        all.push((client, channel));
    }
    let outcome = meter.finish(args.count)?.heap_each(before, args.count);
    for (client, channel) in all {
        client.close().await?;
        drop(channel);
    }
    Ok(outcome)
}

/// Never closes the connection: it would have to take all deliveries first.
async fn slow<C: Client>(args: &Args) -> Result<Outcome> {
    let client = C::connect(args).await?;
    let channel = client.channel().await?;
    if args.prefetch > 0 {
        channel.prefetch(args.prefetch).await?;
    }
    let mut consumer = channel.consume(&args.queue, false).await?;
    let meter = Meter::start()?;
    let end = Instant::now() + args.time;
    let mut received = 0;
    while Instant::now() < end {
        let delivery = consumer.next().await?;
        consumer.ack(delivery, false).await?;
        received += 1;
        thread::sleep(Duration::from_millis(1));
    }
    let outcome = meter.finish(received)?;
    std::mem::forget((client, channel, consumer));
    Ok(outcome)
}

/// tokio's multi-threaded runtime, as `#[tokio::main]` starts it.
#[cfg(feature = "tokio")]
pub struct Tokio;

#[cfg(feature = "tokio")]
impl Runtime for Tokio {
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> {
        let task = tokio::spawn(task);
        async { task.await? }
    }
}

#[cfg(feature = "tokio")]
pub fn run_on_tokio<C: Client>(args: &Args) -> Result<Outcome> {
    on_tokio(run::<C>(&Tokio, args))
}

/// Runs a workload that is none of a [`Client`].
#[cfg(feature = "tokio")]
pub fn on_tokio(work: impl Future<Output = Result<Outcome>>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}
