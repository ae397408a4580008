//! Handlers of HopMQ, measured: `--mode driver-thread` (`open`) and `own-driver` (`connect_on`, driver and handlers on
//! one thread).

use std::hint::black_box;
use std::process::ExitCode;

use bench_harness::{Args, HANDLED, Meter, Outcome, Result, Workload, unsupported};
use futures_lite::future::{block_on, try_zip, zip};
use hopmq::{Connection, IoTimer, Reactor, ReactorTimer, Timer};
use hopmq_app::{App, Bytes, DeadLetter, Existing, Queue};

fn main() -> ExitCode {
    bench_harness::main("hopmq-app", |args| match (args.workload, args.mode.as_deref()) {
        (Workload::Handle, None | Some("driver-thread")) => on_driver_thread(args),
        (Workload::Handle, Some("own-driver")) => on_own_driver(args),
        (Workload::Handle, Some(mode)) => Err(format!("unknown mode {mode}").into()),
        _ => unsupported("an app only handles messages"),
    })
}

async fn handle(Bytes(body): Bytes) {
    black_box(&body);
    HANDLED.one();
}

fn on_driver_thread(args: &Args) -> Result<Outcome> {
    block_on(async {
        let connection = Connection::open(&args.url).await?;
        run(args, connection, IoTimer::new()).await
    })
}

fn on_own_driver(args: &Args) -> Result<Outcome> {
    let mut reactor = Reactor::new()?;
    let handle = reactor.handle();
    reactor.block_on(async {
        let (connection, driver) = Connection::builder().uri(&args.url).connect_on(&handle).await?;
        let work = async move { run(args, connection, ReactorTimer::new(&handle)).await };
        zip(driver, work).await.1
    })
}

/// Handles `count` messages, and declares the queue when their acknowledgements are sent.
async fn run(args: &Args, connection: Connection, timer: impl Timer) -> Result<Outcome> {
    // The counterpart has the queue without anything that would be declared.
    let queue = Queue::new(&args.queue).existing(Existing::Require).dead_letter(DeadLetter::Reject);
    let app = App::new(()).route(queue.prefetch(args.prefetch), handle);
    let control = app.control();
    let channel = connection.channel().await?;
    HANDLED.expect(args.count);
    let meter = Meter::start()?;
    let measured = async {
        HANDLED.all().await;
        let seen = channel.queue(&args.queue).declare_passive().await?.message_count();
        control.stop();
        Result::Ok(meter.finish(args.count)?.seen(seen))
    };
    let running = async { Ok(app.run_with(&connection, timer).await?) };
    let ((), outcome) = try_zip(running, measured).await?;
    connection.close().await?;
    Ok(outcome)
}
