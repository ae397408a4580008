//! lapin, measured on tokio, its default runtime.

use std::process::ExitCode;

use bench_harness::{Args, Channel, Client, Consumer, Result, run_on_tokio};
use bytes::Bytes;
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, ConnectionProperties, PublisherConfirm};

pub fn main() -> ExitCode {
    bench_harness::main("lapin", run_on_tokio::<Peer>)
}

struct Peer(lapin::Connection);

#[derive(Clone)]
struct PeerChannel(lapin::Channel);

struct PeerConsumer(lapin::Consumer);

impl Client for Peer {
    type Channel = PeerChannel;

    async fn connect(args: &Args) -> Result<Self> {
        Ok(Self(lapin::Connection::connect(&args.url, ConnectionProperties::default()).await?))
    }

    async fn channel(&self) -> Result<PeerChannel> {
        Ok(PeerChannel(self.0.create_channel().await?))
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close(200, "".into()).await?)
    }
}

impl Channel for PeerChannel {
    type Confirm = PublisherConfirm;
    type Consumer = PeerConsumer;

    async fn confirm_select(&self) -> Result<()> {
        Ok(self.0.confirm_select(ConfirmSelectOptions::default()).await?)
    }

    async fn publish(&self, queue: &str, body: &Bytes) -> Result<()> {
        self.publish_confirm(queue, body).await?.await?;
        Ok(())
    }

    async fn publish_confirm(&self, queue: &str, body: &Bytes) -> Result<PublisherConfirm> {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        Ok(self.0.basic_publish("".into(), queue.into(), options, body, properties).await?)
    }

    async fn confirmed(&self, confirm: PublisherConfirm) -> Result<()> {
        match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(format!("not confirmed: {other:?}").into()),
        }
    }

    async fn declare(&self, queue: &str) -> Result<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        Ok(self.0.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
    }

    async fn prefetch(&self, count: u16) -> Result<()> {
        Ok(self.0.basic_qos(count, BasicQosOptions::default()).await?)
    }

    async fn consume(&self, queue: &str, no_ack: bool) -> Result<PeerConsumer> {
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        Ok(PeerConsumer(self.0.basic_consume(queue.into(), "bench".into(), options, FieldTable::default()).await?))
    }
}

impl Consumer for PeerConsumer {
    type Delivery = Delivery;

    async fn next(&mut self) -> Result<Delivery> {
        Ok(self.0.next().await.ok_or("the consumer ended")??)
    }

    async fn ack(&mut self, delivery: Delivery, multiple: bool) -> Result<()> {
        delivery.ack(BasicAckOptions { multiple }).await?;
        Ok(())
    }
}
