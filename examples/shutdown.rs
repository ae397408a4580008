//! Graceful shutdown: on SIGTERM or Ctrl-C, a worker takes no new jobs, finishes the job in progress, and reports
//! whether everything was done.
//!
//! ```sh
//! cargo run --example shutdown
//! ```
//!
//! With the argument `once`, it shuts down at the third job instead of waiting for a signal.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use tokio::signal::ctrl_c;
use tokio::sync::Notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = hopmq::Connection::builder().uri(&url).connection_name("worker").open_tokio().await?;
    let channel = connection.channel().await?;
    let jobs = channel.queue("").exclusive().declare().await?;
    for number in 1..=20 {
        jobs.publish(format!("job {number}")).confirm().await?;
    }
    let mut consumer = jobs.consume().prefetch(1).await?;
    let stop_at_third = std::env::args().any(|argument| argument == "once");
    let third_job = Arc::new(Notify::new());
    let third_job_begun = Arc::clone(&third_job);
    let worker = tokio::spawn(async move {
        while let Some(job) = consumer.try_next().await? {
            println!("started   {}", job.text());
            if stop_at_third && job.text() == "job 3" {
                third_job_begun.notify_one();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            println!("finished  {}", job.text());
            job.ack()?;
        }
        println!("no more jobs");
        Ok(())
    });

    future::or(signalled(), third_job.notified()).await;
    println!("shutting down");
    connection.shutdown(Duration::from_secs(20)).await?;
    println!("shut down");
    worker.await.unwrap_or(Ok(()))
}

/// Waits for Ctrl-C or SIGTERM.
#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    let terminated = async {
        terminate.recv().await;
    };
    let interrupted = async {
        let _ = ctrl_c().await;
    };
    future::or(terminated, interrupted).await;
}

#[cfg(not(unix))]
async fn signalled() {
    let _ = ctrl_c().await;
}
