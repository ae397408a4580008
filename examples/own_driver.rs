//! Driving a connection yourself: it runs where you poll it, without a thread or task of HopMQ.
//!
//! ```sh
//! cargo run --example own_driver
//! ```
//!
//! `connect` returns the connection and its driver: a future that reads and writes, and ends with the connection. Spawn
//! the driver on your executor, run it on a thread, or poll it together with your work, as here. To connect over
//! something other than a socket, use `handshake` with any `AsyncRead + AsyncWrite`.

use smol::future;
use smol::stream::StreamExt;

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let builder = hopmq::Connection::builder().uri(&url).connection_name("own driver");

    println!("on this thread, together with the work:");
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
