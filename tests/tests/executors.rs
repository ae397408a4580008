//! A connection works on any executor.

use hopmq::Connection;
use hopmq_tests::{Outcome, broker, run};

async fn work() -> Outcome {
    let connection = Connection::open(&broker().amqp).await?;
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;
    let mut consumer = queue.consume().await?;
    queue.publish("hello").confirm().await?;
    let delivery = futures_lite::StreamExt::next(&mut consumer).await.expect("the consumer is open")?;
    assert_eq!(delivery.body(), b"hello");
    delivery.ack()?;
    Ok(connection.close().await?)
}

#[test]
fn pollster() {
    run("executors::pollster", false, |_| pollster::block_on(work()));
}

#[test]
fn futures_executor() {
    run("executors::futures_executor", false, |_| futures_executor::block_on(work()));
}

#[test]
fn futures_lite() {
    run("executors::futures_lite", false, |_| futures_lite::future::block_on(work()));
}

#[test]
fn smol() {
    run("executors::smol", false, |_| smol::block_on(work()));
}

#[test]
fn tokio_on_one_thread() {
    run("executors::tokio_on_one_thread", false, |_| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
    });
}

#[test]
fn tokio_without_its_reactor() {
    run("executors::tokio_without_its_reactor", false, |_| {
        tokio::runtime::Builder::new_current_thread().build()?.block_on(work())
    });
}
