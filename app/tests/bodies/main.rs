//! Bodies in all formats and encodings, right and wrong, from the publish to the handler or the dead letters.

mod encodings;
mod formats;
mod headers;
mod out;
mod valid;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::Properties;
use hopmq_app::{App, Backoff, Handler, Queue};
use hopmq_broker::{Broker, inspect};

/// What handlers saw.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }
}

/// A message to publish.
#[derive(Clone)]
struct Sent {
    properties: Properties,
    body: Vec<u8>,
}

/// Returns a message with a content type, which may be empty for none.
fn sent(kind: &str, body: impl Into<Vec<u8>>) -> Sent {
    let properties = Properties::new();
    Sent {
        properties: if kind.is_empty() { properties } else { properties.with_content_type(kind) },
        body: body.into(),
    }
}

impl Sent {
    fn encoded(mut self, encoding: &str) -> Self {
        self.properties = self.properties.with_content_encoding(encoding);
        self
    }
}

/// What became of messages.
struct Done {
    /// What the handler saw.
    log: Vec<String>,
    /// The class and the reason of each dead letter.
    dead: Vec<(String, String)>,
    /// What was published to the queue `out`.
    out: Vec<inspect::Message>,
}

impl Done {
    fn reasons(&self) -> Vec<&str> {
        self.dead.iter().map(|(_, reason)| reason.as_str()).collect()
    }

    fn classes(&self) -> Vec<&str> {
        self.dead.iter().map(|(class, _)| class.as_str()).collect()
    }
}

/// Publishes messages to a queue with this handler, and returns what became of them. A failure that is retried is
/// retried once.
fn handle<A: 'static, H>(handler: H, sent: impl IntoIterator<Item = Sent>) -> Done
where
    H: Handler<Log, A, Future: Send> + Clone + Send + Sync,
{
    handle_on(Queue::new("in"), handler, sent)
}

fn handle_on<A: 'static, H>(queue: Queue, handler: H, sent: impl IntoIterator<Item = Sent>) -> Done
where
    H: Handler<Log, A, Future: Send> + Clone + Send + Sync,
{
    let broker = Broker::in_memory();
    let log = Log::default();
    let queue = queue.retry(Backoff::fixed(Duration::from_millis(1)).attempts(2));
    let app = App::new(log.clone()).route(queue, handler);
    let control = app.control();
    future::block_on(async {
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let channel = connection.channel().await?;
        channel.queue("out").durable().declare().await?;
        let test = async {
            broker.until(|inspect| !inspect.consumers().is_empty()).await;
            for Sent { properties, body } in sent {
                let properties = properties.with_reply_to("out");
                channel.publish("", "in", body).properties(&properties).mandatory().confirm().await?;
            }
            broker.until(|inspect| inspect.ready("in").is_empty() && inspect.unacked().is_empty()).await;
            control.stop();
            future::pending::<Result<(), hopmq_app::Error>>().await
        };
        app.run(&connection).or(test).await?;
        connection.close().await?;
        Ok::<_, hopmq_app::Error>(())
    })
    .unwrap();
    let inspect = broker.inspect();
    let dead = inspect.ready("in.dlq").iter().map(reason).collect();
    let log = log.0.lock().unwrap().clone();
    Done { log, dead, out: inspect.ready("out").to_vec() }
}

fn reason(message: &inspect::Message) -> (String, String) {
    let headers = message.properties.headers().unwrap();
    let text = |name| headers.get(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    (text("x-hopmq-error-class"), text("x-hopmq-error"))
}
