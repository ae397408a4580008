//! Handlers of apalis-amqp, measured: a raw body, the default worker, a queue that exists.

use std::convert::Infallible;
use std::future::poll_fn;
use std::hint::black_box;
use std::process::ExitCode;

use apalis::prelude::*;
use apalis_amqp::{AmqpBackend, Config};
use apalis_core::backend::ext::with_codec::WithCodec;
use bench_harness::{Args, HANDLED, Meter, Outcome, Result, Workload, unsupported};
use lapin::options::QueueDeclareOptions;

fn main() -> ExitCode {
    bench_harness::main("apalis-amqp", |args| match args.workload {
        Workload::Handle => bench_harness::on_tokio(run(args)),
        _ => unsupported("apalis-amqp only handles messages"),
    })
}

/// Takes the body as it is: the bodies of a bench are no JSON.
#[derive(Clone, Debug)]
struct Raw;

impl Codec<Vec<u8>> for Raw {
    type Error = Infallible;
    type Compact = Vec<u8>;

    fn encode(&self, body: &Vec<u8>) -> std::result::Result<Vec<u8>, Infallible> {
        Ok(body.clone())
    }

    fn decode(&self, body: &Vec<u8>) -> std::result::Result<Vec<u8>, Infallible> {
        Ok(body.clone())
    }
}

async fn handle(body: Vec<u8>) -> std::result::Result<(), BoxDynError> {
    black_box(body);
    HANDLED.one();
    Ok(())
}

async fn run(args: &Args) -> Result<Outcome> {
    let declare = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let config = Config::default().queue(&*args.queue).prefetch_count(args.prefetch).declare_options(declare);
    let mut backend = AmqpBackend::<Vec<u8>>::new_from_addr(&args.url)?.with_config(config);
    // A worker takes messages after the first `poll_ready`, which only opens the channel: without a consumer it panics.
    // What acknowledges is a clone of the backend from before, which would have no channel. So open the channel here.
    let context = WorkerContext::from("bench");
    poll_fn(|task| backend.poll_ready(task, &context)).await?;
    let worker = WorkerBuilder::new("bench").backend(WithCodec::new(backend, Raw)).build(handle);
    HANDLED.expect(args.count);
    let meter = Meter::start()?;
    worker
        .run_with_ctx(|context| async move {
            HANDLED.all().await;
            context.stop()
        })
        .await?;
    Ok(meter.finish(args.count)?.seen(args.count))
}
