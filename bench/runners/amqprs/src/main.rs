//! amqprs, measured. Deliveries come through `basic_consume_rx`, its fastest API. Confirms come to a callback, its only
//! API for them.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amqprs::callbacks::{ChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, ConfirmSelectArguments,
    ConsumerMessage, QueueDeclareArguments,
};
use amqprs::connection::OpenConnectionArguments;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use bench_harness::{Args, Channel, Client, Consumer, Result, run_on_tokio};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

pub fn main() -> ExitCode {
    bench_harness::main("amqprs", run_on_tokio::<Peer>)
}

struct Peer(amqprs::connection::Connection);

#[derive(Clone)]
struct PeerChannel {
    channel: amqprs::channel::Channel,
    published: Arc<AtomicU64>,
    confirms: Arc<Confirms>,
}

struct PeerConsumer {
    channel: amqprs::channel::Channel,
    receiver: mpsc::UnboundedReceiver<ConsumerMessage>,
}

/// The confirms of a channel.
#[derive(Default)]
struct Confirms {
    /// The highest confirmed delivery tag.
    confirmed: AtomicU64,
    nacked: AtomicU64,
    changed: Notify,
}

struct Callback(Arc<Confirms>);

#[async_trait]
impl ChannelCallback for Callback {
    async fn close(
        &mut self,
        _: &amqprs::channel::Channel,
        _: CloseChannel,
    ) -> std::result::Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn cancel(
        &mut self,
        _: &amqprs::channel::Channel,
        _: Cancel,
    ) -> std::result::Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(
        &mut self,
        _: &amqprs::channel::Channel,
        active: bool,
    ) -> std::result::Result<bool, amqprs::error::Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &amqprs::channel::Channel, ack: Ack) {
        self.0.confirmed.fetch_max(ack.delivery_tag(), Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    async fn publish_nack(&mut self, _: &amqprs::channel::Channel, nack: Nack) {
        self.0.nacked.fetch_add(1, Ordering::AcqRel);
        self.0.confirmed.fetch_max(nack.delivery_tag(), Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    async fn publish_return(&mut self, _: &amqprs::channel::Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

impl Client for Peer {
    type Channel = PeerChannel;

    async fn connect(args: &Args) -> Result<Self> {
        let rest = args.url.strip_prefix("amqp://").ok_or("this runner supports amqp:// only")?;
        let (credentials, rest) = rest.split_once('@').ok_or("the URL has no credentials")?;
        let (user, password) = credentials.split_once(':').ok_or("the URL has no password")?;
        let (host, port) = rest.split('/').next().and_then(|a| a.split_once(':')).ok_or("the URL has no port")?;
        let options = OpenConnectionArguments::new(host, port.parse()?, user, password);
        let connection = amqprs::connection::Connection::open(&options).await?;
        connection.register_callback(DefaultConnectionCallback).await?;
        Ok(Self(connection))
    }

    async fn channel(&self) -> Result<PeerChannel> {
        let channel = self.0.open_channel(None).await?;
        let confirms = Arc::<Confirms>::default();
        channel.register_callback(Callback(confirms.clone())).await?;
        Ok(PeerChannel { channel, published: Arc::default(), confirms })
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl Channel for PeerChannel {
    /// The delivery tag of the publish.
    type Confirm = u64;
    type Consumer = PeerConsumer;

    async fn confirm_select(&self) -> Result<()> {
        Ok(self.channel.confirm_select(ConfirmSelectArguments::default()).await?)
    }

    async fn publish(&self, queue: &str, body: &Bytes) -> Result<()> {
        let arguments = BasicPublishArguments::new("", queue);
        Ok(self.channel.basic_publish(BasicProperties::default(), body.to_vec(), arguments).await?)
    }

    async fn publish_confirm(&self, queue: &str, body: &Bytes) -> Result<u64> {
        self.publish(queue, body).await?;
        Ok(self.published.fetch_add(1, Ordering::AcqRel) + 1)
    }

    async fn confirmed(&self, confirm: u64) -> Result<()> {
        while self.confirms.confirmed.load(Ordering::Acquire) < confirm {
            let changed = self.confirms.changed.notified();
            if self.confirms.confirmed.load(Ordering::Acquire) < confirm {
                changed.await;
            }
        }
        if self.confirms.nacked.load(Ordering::Acquire) > 0 { Err("nacked".into()) } else { Ok(()) }
    }

    async fn declare(&self, queue: &str) -> Result<u32> {
        let arguments = QueueDeclareArguments::new(queue).passive(true).finish();
        Ok(self.channel.queue_declare(arguments).await?.ok_or("queue.declare returned no declare-ok")?.1)
    }

    async fn prefetch(&self, count: u16) -> Result<()> {
        Ok(self.channel.basic_qos(BasicQosArguments::new(0, count, false)).await?)
    }

    async fn consume(&self, queue: &str, no_ack: bool) -> Result<PeerConsumer> {
        let arguments = BasicConsumeArguments::new(queue, "bench").manual_ack(!no_ack).finish();
        let (_, receiver) = self.channel.basic_consume_rx(arguments).await?;
        Ok(PeerConsumer { channel: self.channel.clone(), receiver })
    }
}

impl Consumer for PeerConsumer {
    type Delivery = ConsumerMessage;

    async fn next(&mut self) -> Result<ConsumerMessage> {
        Ok(self.receiver.recv().await.ok_or("the consumer ended")?)
    }

    async fn ack(&mut self, delivery: ConsumerMessage, multiple: bool) -> Result<()> {
        let tag = delivery.deliver.ok_or("the message has no deliver method")?.delivery_tag();
        Ok(self.channel.basic_ack(BasicAckArguments::new(tag, multiple)).await?)
    }
}
