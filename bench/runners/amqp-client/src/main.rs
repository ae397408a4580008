//! amqp-client, measured. Bodies are `Bytes`, which it takes without a copy, as its documentation recommends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amqp_client::{
    BasicProperties, Config, Confirmation, ConsumeOpts, DeliverMessage, PublishConfirm, QueueDeclareOpts,
};
use bench_harness::{Args, Channel, Client, Consumer, Result, run_on_tokio};
use bytes::Bytes;

pub fn main() -> ExitCode {
    bench_harness::main("amqp-client", run_on_tokio::<Peer>)
}

struct Peer(amqp_client::Connection);

#[derive(Clone)]
struct PeerChannel(Arc<amqp_client::Channel>);

struct PeerConsumer {
    consumer: amqp_client::Consumer,
    channel: Arc<amqp_client::Channel>,
}

impl Client for Peer {
    type Channel = PeerChannel;

    async fn connect(args: &Args) -> Result<Self> {
        // It sometimes loses a fast reply. A short timeout makes such a run fail early.
        let config = Config { rpc_timeout: Duration::from_secs(3), ..Config::from_uri(&args.url)? };
        Ok(Self(amqp_client::Connection::connect_with_config(config).await?))
    }

    async fn channel(&self) -> Result<PeerChannel> {
        Ok(PeerChannel(Arc::new(self.0.open_channel().await?)))
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl Channel for PeerChannel {
    type Confirm = PublishConfirm;
    type Consumer = PeerConsumer;

    async fn confirm_select(&self) -> Result<()> {
        Ok(self.0.confirm_select().await?)
    }

    async fn publish(&self, queue: &str, body: &Bytes) -> Result<()> {
        Ok(self.0.basic_publish("", queue, body.clone(), BasicProperties::new()).await?)
    }

    async fn publish_confirm(&self, queue: &str, body: &Bytes) -> Result<PublishConfirm> {
        Ok(self.0.basic_publish_confirmed("", queue, body.clone(), BasicProperties::new(), false).await?)
    }

    async fn confirmed(&self, confirm: PublishConfirm) -> Result<()> {
        match confirm.await? {
            Confirmation::Acked => Ok(()),
            Confirmation::Nacked { .. } => Err("nacked".into()),
        }
    }

    async fn declare(&self, queue: &str) -> Result<u32> {
        let options = QueueDeclareOpts { passive: true, ..QueueDeclareOpts::default() };
        Ok(self.0.queue_declare(queue, options).await?.message_count)
    }

    async fn prefetch(&self, count: u16) -> Result<()> {
        Ok(self.0.basic_qos(count, false).await?)
    }

    async fn consume(&self, queue: &str, no_ack: bool) -> Result<PeerConsumer> {
        let options = ConsumeOpts { no_ack, ..ConsumeOpts::default() };
        let consumer = self.0.basic_consume(queue, "bench", options).await?;
        Ok(PeerConsumer { consumer, channel: self.0.clone() })
    }
}

impl Consumer for PeerConsumer {
    type Delivery = DeliverMessage;

    async fn next(&mut self) -> Result<DeliverMessage> {
        Ok(self.consumer.next().await.ok_or("the consumer ended")?)
    }

    async fn ack(&mut self, delivery: DeliverMessage, multiple: bool) -> Result<()> {
        Ok(self.channel.basic_ack(delivery.delivery_tag, multiple)?)
    }
}
