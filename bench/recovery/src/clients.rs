//! The clients, with recovery as their documentation recommends and otherwise with their defaults. Each publishes with
//! a confirm for each message, and consumes and acknowledges. Operations that fail are retried.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::StreamExt;
use tokio::task::JoinHandle;

use crate::Result;
use crate::log::Log;

#[derive(Clone, Copy)]
pub enum Client {
    Hopmq,
    Lapin,
    /// The crate `amqp-client`.
    Amqp,
}

/// The pause between two messages, and before a retry.
const PAUSE: Duration = Duration::from_millis(1);
/// How many deliveries a client may hold unacknowledged.
const PREFETCH: u16 = 20;

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hopmq => "hopmq",
            Self::Lapin => "lapin",
            Self::Amqp => "amqp-client",
        }
    }

    /// Spawns the client. It works until it is aborted or gives up.
    pub fn spawn(self, url: &str, queue: &str, log: &Arc<Log>) -> JoinHandle<()> {
        let url = url.to_owned();
        let queue = queue.to_owned();
        let log = Arc::clone(log);
        tokio::spawn(async move {
            let outcome = match self {
                Self::Hopmq => hopmq(&url, &queue, &log).await,
                Self::Lapin => lapin(&url, &queue, &log).await,
                Self::Amqp => amqp_client(&url, &queue, &log).await,
            };
            if let Err(error) = outcome {
                eprintln!("{} gave up: {error}", self.name());
            }
        })
    }
}

/// Publishes and consumes until one of the two ends.
async fn either(publish: impl Future<Output = Result<()>>, consume: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        outcome = publish => outcome,
        outcome = consume => outcome,
    }
}

fn number(body: &[u8]) -> u64 {
    std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn hopmq(url: &str, queue: &str, log: &Log) -> Result<()> {
    let connection = hopmq::Connection::open(url).await?;
    let channel = connection.channel().await?;
    let queue = channel.queue(queue).declare().await?;
    let mut consumer = queue.consume().prefetch(PREFETCH).await?;
    let publish = async {
        loop {
            let id = log.publish();
            while let Err(error) = channel.publish("", queue.name(), id.to_string()).confirm().await {
                if !connection.is_open() {
                    return Err(error.into());
                }
                tokio::time::sleep(PAUSE).await;
            }
            log.confirmed(id);
            tokio::time::sleep(PAUSE).await;
        }
    };
    let consume = async {
        while let Some(delivery) = consumer.try_next().await? {
            log.delivered(number(delivery.body()));
            delivery.ack()?;
        }
        Err("the consumer ended".into())
    };
    either(publish, consume).await
}

async fn lapin(url: &str, queue: &str, log: &Log) -> Result<()> {
    use lapin::options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    };
    use lapin::types::FieldTable;
    use lapin::{BasicProperties, ConnectionProperties};

    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = lapin::Connection::connect(url, properties).await?;
    let publishing = connection.create_channel().await?;
    let consuming = connection.create_channel().await?;
    publishing.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    consuming.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = consuming.basic_consume(queue.into(), "bench".into(), options, FieldTable::default()).await?;
    let publish_one = async |id: u64| {
        let body = id.to_string().into_bytes();
        let options = BasicPublishOptions::default();
        publishing.basic_publish("".into(), queue.into(), options, &body, BasicProperties::default()).await?.await
    };
    let publish = async {
        loop {
            let id = log.publish();
            while let Err(error) = publish_one(id).await {
                publishing.wait_for_recovery(error).await?;
            }
            log.confirmed(id);
            tokio::time::sleep(PAUSE).await;
        }
    };
    let consume = async {
        while let Some(delivery) = consumer.next().await {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => {
                    consuming.wait_for_recovery(error).await?;
                    continue;
                }
            };
            log.delivered(number(&delivery.data));
            // The delivery may belong to a lost connection. Then the broker delivers the message again.
            if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
                consuming.wait_for_recovery(error).await?;
            }
        }
        Err("the consumer ended".into())
    };
    either(publish, consume).await
}

async fn amqp_client(url: &str, queue: &str, log: &Log) -> Result<()> {
    use amqp_client::{QueueOpts, RecoveryConfig, SubscribeOpts};

    let builder = amqp_client::Client::builder(url)?.recovery(RecoveryConfig::default());
    let client = builder.build().await?;
    let declared = client.queue(queue, QueueOpts::default().durable(false)).await?;
    let options = SubscribeOpts { prefetch: PREFETCH, ..SubscribeOpts::default() };
    let mut consumer = declared.subscribe::<Vec<u8>>(options).await?;
    let publish = async {
        loop {
            let id = log.publish();
            while client.publish_confirmed("", queue, &id.to_string().into_bytes()).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            log.confirmed(id);
            tokio::time::sleep(PAUSE).await;
        }
    };
    let consume = async {
        while let Some(delivery) = consumer.next().await {
            let Ok(delivery) = delivery else { continue };
            log.delivered(number(&delivery.body));
            // The delivery may belong to a lost connection. Then the broker delivers the message again.
            let _ = delivery.ack();
        }
        Err("the consumer ended".into())
    };
    either(publish, consume).await
}
