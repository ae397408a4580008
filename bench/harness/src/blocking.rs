//! The workloads for blocking clients, with a thread for each task.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::CALLS;
use crate::{Ack, Args, Latencies, Meter, Outcome, Pace, Result, Workload, heap_bytes, join, unsupported};

/// A connection of the measured client.
pub trait BlockingClient: Sized {
    type Channel: BlockingChannel;
    fn connect(args: &Args) -> Result<Self>;
    fn channel(&mut self) -> Result<Self::Channel>;
    fn close(self) -> Result<()>;
}

/// A channel, which closes when it is dropped.
pub trait BlockingChannel: Sized + Send + 'static {
    /// The channel for another thread, or `None` if the client cannot share one.
    fn share(&self) -> Option<Self>;
    fn confirm_select(&mut self) -> Result<()>;
    fn publish(&mut self, queue: &str, body: &[u8]) -> Result<()>;
    /// Publishes `count` messages by a publisher that encodes their properties and route once.
    fn publish_prepared(&mut self, _queue: &str, _body: &[u8], _count: u64) -> Result<()> {
        unsupported("the client prepares no publishes")
    }
    /// Publishes `count` messages, `batch` in a call.
    fn publish_many(&mut self, _queue: &str, _body: &[u8], _count: u64, _batch: usize) -> Result<()> {
        unsupported("the client publishes no batches")
    }
    /// Publishes `count` confirmed messages, `batch` in a call, at most `calls` of them unconfirmed at a time.
    fn publish_many_confirm(
        &mut self,
        _queue: &str,
        _body: &[u8],
        _count: u64,
        (_batch, _calls): (usize, usize),
    ) -> Result<()> {
        unsupported("the client publishes no batches")
    }
    /// Takes `count` deliveries in batches of at most `batch`, and acknowledges each batch.
    fn consume_batches(&mut self, _queue: &str, _count: u64, _batch: usize) -> Result<()> {
        unsupported("the client hands out no batches")
    }
    /// Publishes `count` messages with at most `window` unconfirmed, and waits for all confirms.
    fn publish_windowed(&mut self, queue: &str, body: &[u8], count: u64, window: usize) -> Result<()>;
    fn declare(&mut self, queue: &str) -> Result<u32>;
    fn prefetch(&mut self, count: u16) -> Result<()>;
    /// Takes `count` deliveries, acknowledges them as `ack` says and calls `each`. Stops early if `each` returns
    /// `false`, without cancelling the consumer.
    fn consume(&mut self, queue: &str, ack: Ack, count: u64, each: impl FnMut() -> bool) -> Result<()>;
}

/// Runs the workload of `args`.
pub fn run_blocking<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    match args.workload {
        Workload::Publish
        | Workload::PublishPrepared
        | Workload::PublishMany
        | Workload::PublishConfirm
        | Workload::PublishManyConfirm => publish::<C>(args),
        Workload::ConsumeAckEach
        | Workload::ConsumeAckMultiple
        | Workload::ConsumeBatches
        | Workload::ConsumeNoAck
        | Workload::Handle => consume::<C>(args),
        Workload::PublishConnections => publish_connections::<C>(args),
        Workload::Rpc => rpc::<C>(args),
        Workload::Latency => latency::<C>(args),
        Workload::IdleConnections => idle::<C>(args),
        Workload::Connect => connect::<C>(args),
        Workload::SlowConsumer => slow::<C>(args),
        Workload::Prepare => unsupported("only the bare loop prepares queues"),
    }
}

fn publish<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut client = C::connect(args)?;
    let confirm = matches!(args.workload, Workload::PublishConfirm | Workload::PublishManyConfirm);
    let mut channels = Vec::new();
    for _ in 0..args.channels.min(args.tasks) {
        let mut channel = client.channel()?;
        if confirm {
            channel.confirm_select()?;
        }
        channels.push(channel);
    }
    for task in channels.len()..args.tasks {
        match channels[task % args.channels].share() {
            Some(channel) => channels.push(channel),
            None => return unsupported("a channel cannot be shared between threads"),
        }
    }
    let before = channels[0].declare(&args.queue)?;
    let meter = Meter::start()?;
    let work = move |task: usize, mut channel: C::Channel, args: &Args| {
        let count = args.share(task);
        let body = args.body();
        let window = (args.window / args.tasks).max(1);
        match args.workload {
            Workload::PublishConfirm => channel.publish_windowed(&args.queue, &body, count, window)?,
            Workload::PublishManyConfirm => {
                channel.publish_many_confirm(&args.queue, &body, count, (window.div_ceil(CALLS), CALLS))?;
            }
            Workload::PublishPrepared => channel.publish_prepared(&args.queue, &body, count)?,
            Workload::PublishMany => channel.publish_many(&args.queue, &body, count, window)?,
            _ => {
                for _ in 0..count {
                    channel.publish(&args.queue, &body)?;
                }
            }
        }
        Ok(channel)
    };
    let mut channels = if args.tasks == 1 {
        channels.into_iter().map(|channel| work(0, channel, args)).collect::<Result<Vec<_>>>()?
    } else {
        let tasks = channels.into_iter().enumerate().map(|(task, channel)| {
            let args = args.clone();
            thread::spawn(move || work(task, channel, &args))
        });
        join(tasks.collect())?
    };
    // A round trip on each channel, because a client may write the channels in any order.
    let mut seen = 0;
    for channel in &mut channels {
        seen = channel.declare(&args.queue)?;
    }
    let outcome = meter.finish(args.count)?.seen(seen.saturating_sub(before));
    drop(channels);
    client.close()?;
    Ok(outcome)
}

fn publish_connections<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut all = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        let mut client = C::connect(args)?;
        let channel = client.channel()?;
        all.push((client, channel));
    }
    let (clients, channels): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let meter = Meter::start()?;
    let tasks = channels.into_iter().enumerate().map(|(task, mut channel)| {
        let (count, window, queue, body) = (args.share(task), args.window as u64, args.queue.clone(), args.body());
        thread::spawn(move || {
            for n in 1..=count {
                channel.publish(&queue, &body)?;
                if n.is_multiple_of(window) {
                    thread::yield_now();
                }
            }
            Ok((channel.declare(&queue)?, channel))
        })
    });
    let done = join(tasks.collect())?;
    let seen: u32 = done.iter().map(|(seen, _)| seen).sum();
    let outcome = meter.finish(args.count)?.seen(seen);
    drop(done);
    clients.into_iter().try_for_each(C::close)?;
    Ok(outcome)
}

fn consume<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut client = C::connect(args)?;
    let mut channel = client.channel()?;
    // A client may have a default of its own.
    channel.prefetch(args.prefetch)?;
    let ack = args.ack();
    let meter = Meter::start()?;
    match args.workload {
        Workload::ConsumeBatches => channel.consume_batches(&args.queue, args.count, args.window)?,
        _ => channel.consume(&args.queue, ack, args.count, || true)?,
    }
    let seen = channel.declare(&args.queue)?;
    let outcome = meter.finish(args.count)?.seen(if ack == Ack::Never { args.count } else { seen.into() });
    drop(channel);
    client.close()?;
    Ok(outcome)
}

fn rpc<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut client = C::connect(args)?;
    let mut channel = client.channel()?;
    let meter = Meter::start()?;
    for _ in 0..args.count {
        channel.declare(&args.queue)?;
    }
    let outcome = meter.finish(args.count)?;
    drop(channel);
    client.close()?;
    Ok(outcome)
}

fn latency<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut client = C::connect(args)?;
    let mut channel = client.channel()?;
    channel.confirm_select()?;
    let body = args.body();
    let mut latencies = Latencies::with_capacity(args.count);
    let mut pace = Pace::new(Duration::from_millis(1));
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let due = pace.wait();
        channel.publish_windowed(&args.queue, &body, 1, 1)?;
        latencies.since(due);
    }
    let outcome = meter.finish(args.count)?.seen(args.count).latencies(latencies);
    drop(channel);
    client.close()?;
    Ok(outcome)
}

fn connect<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut latencies = Latencies::with_capacity(args.count);
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let start = Instant::now();
        let mut client = C::connect(args)?;
        let channel = client.channel()?;
        latencies.since(start);
        drop(channel);
        client.close()?;
    }
    Ok(meter.finish(args.count)?.latencies(latencies))
}

fn idle<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let before = heap_bytes();
    let mut all = Vec::with_capacity(args.count as usize);
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let mut client = C::connect(args)?;
        let channel = client.channel()?;
        all.push((client, channel));
    }
    let outcome = meter.finish(args.count)?.heap_each(before, args.count);
    for (client, channel) in all {
        drop(channel);
        client.close()?;
    }
    Ok(outcome)
}

/// Never closes the connection: it would have to take all deliveries first.
fn slow<C: BlockingClient>(args: &Args) -> Result<Outcome> {
    let mut client = C::connect(args)?;
    let mut channel = client.channel()?;
    if args.prefetch > 0 {
        channel.prefetch(args.prefetch)?;
    }
    let meter = Meter::start()?;
    let end = Instant::now() + args.time;
    let mut received = 0;
    channel.consume(&args.queue, Ack::Each, u64::MAX, || {
        received += 1;
        thread::sleep(Duration::from_millis(1));
        Instant::now() < end
    })?;
    let outcome = meter.finish(received)?;
    std::mem::forget((client, channel));
    Ok(outcome)
}
