//! A driver of your own: the connection runs where you say, with no thread and no task that you did not make.
//!
//! ```sh
//! cargo run --example own_driver
//! ```
//!
//! `connect` hands out the connection and its driver: a future that moves the bytes, and ends when the connection does.
//! Spawn it on your executor, give it a thread, or poll it beside your work, as here. Over something other than a
//! socket, use `handshake` with anything that is `AsyncRead + AsyncWrite`.

use smol::future;
use smol::stream::StreamExt;

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let builder = hopmq::Connection::builder().uri(&url).name("own driver");

    println!("on this thread, beside the work:");
    smol::block_on(async {
        let (connection, driver) = builder.connect().await?;
        // `zip` polls both. The driver ends when `work` has closed the connection.
        let ((), result) = future::zip(driver, work(connection)).await;
        result
    })?;

    println!("on an executor of this thread's own:");
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let (connection, driver) = builder.connect().await?;
        let driving = executor.spawn(driver);
        work(connection).await?;
        driving.await;
        Ok(())
    }))
}

async fn work(connection: hopmq::Connection) -> hopmq::Result<()> {
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;
    queue.publish("to myself").confirm().await?;
    let mut consumer = queue.consume().await?;
    if let Some(delivery) = consumer.try_next().await? {
        println!("  received {:?}", delivery.text());
        delivery.ack()?;
    }
    connection.close().await?;
    let stats = connection.stats();
    println!("  {} bytes sent in {} writes, {} received", stats.bytes_sent, stats.writes, stats.bytes_received);
    Ok(())
}
