//! Connections over a WebSocket and a Unix socket, by URI, on async-io and on tokio.

use futures_lite::StreamExt;
use hopmq::{Builder, Connection};
use hopmq_tests::{Outcome, broker, relay, run};

/// Publishes bodies of many sizes with confirms, and consumes them.
async fn round_trip(connection: Connection, queue: &str) -> Outcome {
    let channel = connection.channel().await?;
    let queue = channel.queue(queue).durable().declare().await?;
    let sizes = [0, 1, 5000, 9_999, 10_000, 10_001, 200_000, 1 << 20];
    let mut confirms = Vec::new();
    for size in sizes {
        confirms.push(queue.publish(vec![size as u8; size]).confirm_later().await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    let mut consumer = queue.consume().await?;
    for size in sizes {
        let delivery = consumer.try_next().await?.expect("all messages were confirmed");
        assert!(delivery.body()[..] == vec![size as u8; size], "{size} bytes");
        delivery.ack()?;
    }
    Ok(connection.close().await?)
}

fn on_async_io(builder: &Builder, queue: &str) -> Outcome {
    smol::block_on(async { round_trip(builder.open().await?, queue).await })
}

fn on_tokio(builder: &Builder, queue: &str) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { round_trip(builder.open_tokio().await?, queue).await })
}

#[test]
fn a_client_connects_over_a_websocket() {
    run("transports::a_client_connects_over_a_websocket", false, |harness| {
        let (port, _relay) = relay::websocket(broker().address())?;
        let builder = Connection::builder().uri(&format!("ws://guest:guest@127.0.0.1:{port}/ws/amqp?vhost=%2f"));
        on_async_io(&builder, &harness.name("websocket"))?;
        on_tokio(&builder, &harness.name("websocket"))
    });
}

#[test]
fn a_client_connects_over_a_unix_socket() {
    run("transports::a_client_connects_over_a_unix_socket", false, |harness| {
        let path = std::env::temp_dir().join(format!("hopmq-{}.sock", std::process::id()));
        let _relay = relay::unix(&path, broker().address())?;
        let builder = Connection::builder().uri(&format!("amqp+unix://{}", path.display()));
        let done =
            on_async_io(&builder, &harness.name("unix")).and_then(|()| on_tokio(&builder, &harness.name("unix")));
        std::fs::remove_file(&path)?;
        done
    });
}

#[test]
fn a_failed_connect_names_the_socket() {
    run("transports::a_failed_connect_names_the_socket", false, |_| {
        let error =
            smol::block_on(Connection::open("amqp+unix:///nowhere/hopmq.sock")).expect_err("there is no socket");
        assert!(error.to_string().contains("/nowhere/hopmq.sock"), "{error}");
        let (port, relay) = relay::websocket("127.0.0.1:1")?;
        let error =
            smol::block_on(Connection::open(&format!("ws://127.0.0.1:{port}/"))).expect_err("the relay has no broker");
        assert_eq!(error.kind(), hopmq::ErrorKind::Io, "{error}");
        drop(relay);
        Ok(())
    });
}
