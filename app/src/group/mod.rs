//! Groups that keep order over programs: the route that moves messages to partitions, and the members' shares.
//!
//! Owns the step from a group's queue to its partitions, and who of the members works on which. In come the messages of
//! the group's queue and the signs of life of its members; out go confirmed publishes, and consumers that are started
//! anew. It must never know a handler. Order needs the broker's single active consumers alone: the members' shares are
//! about fairness.

mod members;

use std::sync::Arc;
use std::time::Duration;

use hopmq::{ErrorKind, Message, Properties};

pub(crate) use members::Members;

use crate::context::Context;
use crate::error::Error;
use crate::extract::FromDelivery;
use crate::flow::{Backoff, Verdict, headers};
use crate::incoming::Incoming;
use crate::topology::{self, Key, Queue};
use crate::worker::{insert_origin, moved};

/// The waits before a message that could not be moved is moved again: they double.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How many messages are moved at once. Those with the same key are moved one after the other.
const AT_ONCE: usize = 128;

/// Returns the queue whose messages are moved to the partitions of `queue`: its keys are theirs.
pub(crate) fn router_queue(queue: &Queue) -> Queue {
    let key = queue.key.clone().unwrap_or_else(routing_key);
    let mut router = Queue { key: Some(key), ..queue.clone() }.single_active_consumer();
    router.retry = Backoff::never();
    router.retry_class = Vec::new();
    router.delivery_limit = 0;
    router.rate = None;
    router.breaker = None;
    router.batch = None;
    router.prefetch = None;
    router.concurrency = AT_ONCE;
    router
}

/// Returns the queues of the partitions, whose messages carry the hash of their key.
pub(crate) fn parts(queue: &Queue) -> impl Iterator<Item = Queue> + '_ {
    let key = Key::new(|message| message.header(headers::KEY).and_then(|value| value.as_i64()).unwrap_or(0) as u64);
    queue.parts().map(move |part| Queue { key: Some(key.clone()), ..part })
}

fn routing_key() -> Key {
    Key::hash_of(|message| message.routing_key().to_owned())
}

/// A message of a group's queue.
pub(crate) struct Moved {
    message: Message,
    properties: Properties,
    context: Context,
}

impl<S> FromDelivery<S> for Moved {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        let (message, context) = (incoming.message().clone(), incoming.context().clone());
        let mut properties = moved(incoming, &[], |table| insert_origin(incoming, table));
        if let Some(expiration) = message.properties().expiration() {
            properties = properties.with_expiration(expiration);
        }
        Ok(Self { message, properties, context })
    }
}

/// Moves a message to its partition.
pub(crate) async fn route(queue: Arc<Queue>, moved: Moved) -> Verdict {
    let Moved { message, properties, context } = moved;
    let key = queue.key.as_ref().map_or(0, |key| key.read(&message));
    let part = key % u64::from(queue.partitions.unwrap_or(1));
    let properties = properties.with_header(headers::KEY, key as i64);
    let to = format!("{}.{part}", queue.name());
    let mut wait = FIRST_WAIT;
    // A message that can't be moved stays where it is, and those with the same key behind it.
    while let Err(error) = publish(&context, &queue, &to, &properties, message.body_bytes()).await {
        tracing::warn!(queue = queue.name(), to, %error, "a message could not be moved to its partition; trying again");
        context.sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Verdict::Ack
}

async fn publish(
    context: &Context,
    queue: &Queue,
    to: &str,
    properties: &Properties,
    body: bytes::Bytes,
) -> Result<(), Error> {
    match context.publish("", to, properties, body).await {
        Err(error) if error.kind() == ErrorKind::Returned => {
            // The partition was deleted since the app began. The next attempt finds it.
            topology::declare(context.connection(), &[], &[queue]).await?;
            Err(error.into())
        }
        done => Ok(done?),
    }
}
