//! Ending a worker in order: on SIGTERM or Ctrl-C it takes in nothing new, finishes what is in hand, and says whether
//! all is done.
//!
//! ```sh
//! cargo run --example shutdown
//! ```
//!
//! With `once` as argument it does not wait for the signal, but for the third job.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use tokio::signal::ctrl_c;
use tokio::sync::Notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = hopmq::Connection::builder().uri(&url).name("worker").open_tokio().await?;
    let channel = connection.channel().await?;
    let jobs = channel.queue("").exclusive().declare().await?;
    for number in 1..=20 {
        jobs.publish(format!("job {number}")).confirm().await?;
    }
    let mut consumer = jobs.consume().prefetch(1).await?;
    let only_once = std::env::args().any(|argument| argument == "once");
    let enough = Arc::new(Notify::new());
    let third = Arc::clone(&enough);
    let worker = tokio::spawn(async move {
        while let Some(job) = consumer.try_next().await? {
            println!("begun     {}", job.text());
            if only_once && job.text() == "job 3" {
                third.notify_one();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            println!("finished  {}", job.text());
            job.ack()?;
        }
        println!("no more jobs");
        Ok(())
    });

    future::or(signalled(), enough.notified()).await;
    println!("shutting down");
    connection.shutdown(Duration::from_secs(20)).await?;
    println!("all is done");
    worker.await.unwrap_or(Ok(()))
}

/// Ctrl-C at the terminal, or SIGTERM from whoever runs this program.
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
