//! The clients, each with recovery as its documentation turns it on and otherwise with its defaults: one task
//! publishes, with a confirm for each message, another consumes and acks. What fails is tried again.

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

/// Between two messages, and before another try.
const PAUSE: Duration = Duration::from_millis(1);
/// What a client may hold unacked.
const PREFETCH: u16 = 20;

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hopmq => "hopmq",
            Self::Lapin => "lapin",
            Self::Amqp => "amqp-client",
        }
    }

    /// Works until it is aborted, or the client gives up.
    pub fn spawn(self, url: &str, queue: &str, log: &Arc<Log>) -> JoinHandle<()> {
        let (url, queue, log) = (url.to_owned(), queue.to_owned(), Arc::clone(log));
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

/// Both, until one of them ends.
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
    let (publishing, consuming) = (connection.create_channel().await?, connection.create_channel().await?);
    publishing.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    consuming.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = consuming.basic_consume(queue.into(), "bench".into(), options, arguments).await?;
    let publish_one = async |id: u64| {
        let (options, properties, body) =
            (BasicPublishOptions::default(), BasicProperties::default(), id.to_string().into_bytes());
        publishing.basic_publish("".into(), queue.into(), options, &body, properties).await?.await
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
            // It may belong to the link that is gone; then the message comes again.
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
            // It may belong to the link that is gone; then the message comes again.
            let _ = delivery.ack();
        }
        Err("the consumer ended".into())
    };
    either(publish, consume).await
}
