//! Handlers of RustStream, measured: a raw body, one worker, a queue that exists.

use std::hint::black_box;
use std::num::NonZeroU16;
use std::process::ExitCode;

use bench_harness::{Args, HANDLED, Meter, Outcome, Result, Workload, unsupported};
use ruststream_lapin::prelude::*;

fn main() -> ExitCode {
    bench_harness::main("RustStream", |args| match args.workload {
        Workload::Handle => bench_harness::on_tokio(run(args)),
        _ => unsupported("RustStream only handles messages"),
    })
}

/// The body, borrowed from the delivery.
#[derive(Deserialized)]
struct Body<'a>(&'a [u8]);

#[subscriber(RabbitQueue::new("bench"))]
async fn handle(body: &Body<'_>) -> HandlerOutcome {
    black_box(body.0);
    HANDLED.one();
    HandlerOutcome::ack()
}

async fn run(args: &Args) -> Result<Outcome> {
    let broker = LapinBroker::new(&args.url).prefetch(NonZeroU16::new(args.prefetch).unwrap_or(NonZeroU16::MAX));
    let queue = RabbitQueue::new(&args.queue);
    let app = RustStream::new(AppInfo::new("bench", "0.0.0")).with_broker(broker, |b| {
        b.include(handle.map_source(|_| queue));
    });
    HANDLED.expect(args.count);
    let meter = Meter::start()?;
    let running = app.start().await?;
    HANDLED.all().await;
    // Closing the connection is a round trip: the acknowledgements have arrived.
    running.shutdown().await?;
    Ok(meter.finish(args.count)?.seen(args.count))
}
