//! Traffic between a real client and a real RabbitMQ through the gateway.

use crate::common::{Page, Served, soon};
use futures_lite::StreamExt;
use hopmq::Connection;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_proto::method::connection;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_publishes_and_consumes_through_the_gateway() {
    let served = Served::start("").await;
    let connection = soon(Connection::builder().uri(&served.amqp("guest", "guest")).open_tokio()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.queue("").exclusive().declare().await.unwrap();
    let sizes = [0, 1, 4096, 70_000, 131_064, 131_065, 1 << 20];
    let mut confirms = Vec::new();
    for size in sizes {
        confirms.push(queue.publish(vec![size as u8; size]).confirm_later().await.unwrap());
    }
    for confirm in confirms {
        soon(confirm).await.unwrap();
    }
    let mut consumer = queue.consume().await.unwrap();
    for size in sizes {
        let delivery = soon(consumer.try_next()).await.unwrap().expect("all messages were confirmed");
        assert!(delivery.body()[..] == vec![size as u8; size], "{size} bytes");
        delivery.ack().unwrap();
    }
    drop(consumer);
    soon(connection.close()).await.unwrap();
    served.is_empty().await;
    assert_eq!(served.metric("hopmq_gateway_messages_published_total").await, sizes.len() as u64);
    assert_eq!(served.metric("hopmq_gateway_messages_delivered_total").await, sizes.len() as u64);
    assert_eq!(served.metric("hopmq_gateway_connections_ended_total{reason=\"closed\"}").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_header_may_arrive_byte_by_byte() {
    let served = Served::start("").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    for byte in PROTOCOL_HEADER {
        page.bytes(&[byte]).await;
    }
    page.expect(<connection::Start<'_> as hopmq_proto::method::Encode>::ID).await;
}
