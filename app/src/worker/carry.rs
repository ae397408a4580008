//! Carries out a plan: replies, forwards with a confirm, then settles.
//!
//! In come a message and its [`Plan`]; out go publishes and one settlement. It must never settle a message as done
//! before its forward is confirmed, and must decide nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hopmq::{Acker, ErrorKind, FieldTable, Properties};

use crate::flow::{Forward, Payload, Plan, Settle, headers};
use crate::incoming::Incoming;
use crate::topology::{self, Queue};
use crate::worker::Gate;

/// The wait after a forward that failed: it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A frame has this many bytes around the properties: its own 8, and the first 14 of a content header.
const AROUND: usize = 8 + 14;
/// The room for what a broker adds to the headers of a message that expires: `x-death` and its like.
const FOR_DEATHS: usize = 2048;

pub(super) async fn carry(mut incoming: Incoming, plan: Plan, queue: Arc<Queue>, gate: Arc<Gate>) {
    if let Some(reply) = &plan.reply {
        answer(&incoming, reply).await;
    }
    let mut settle = plan.settle;
    if let Some(to) = &plan.forward
        && !forward(&incoming, to, &queue, &gate).await
    {
        settle = Settle::NackRequeue;
    }
    self::settle(&mut incoming, settle);
}

/// Settles a message as the plan says. A failure means that the broker delivers it again.
pub(super) fn settle(incoming: &mut Incoming, how: Settle) {
    let settled = incoming.settle(|acker: Acker| match how {
        Settle::Nothing => Ok(hopmq::Settled::NotNeeded),
        Settle::Ack => acker.ack(),
        Settle::Reject => acker.reject(false),
        Settle::RejectRequeue => acker.reject(true),
        Settle::NackRequeue => acker.nack(true),
    });
    if let Err(error) = settled {
        tracing::debug!(queue = incoming.queue(), %error, "a message could not be settled, and will be redelivered");
    }
}

/// Moves a message, again and again until the broker confirms it: a message that went back to its queue instead would
/// come again at once, and be dropped when the broker has counted too many deliveries. Returns false if the app was
/// stopped or its connection ended before.
async fn forward(incoming: &Incoming, to: &Forward, queue: &Queue, gate: &Gate) -> bool {
    let mut wait = FIRST_WAIT;
    loop {
        let Err(error) = publish(incoming, to, queue).await else { return true };
        tracing::warn!(queue = queue.name(), to = to.queue, %error, "a message could not be moved; trying again");
        let context = incoming.context();
        if gate.is_stopped() || !context.connection().is_open() {
            return false;
        }
        context.sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn publish(incoming: &Incoming, to: &Forward, queue: &Queue) -> hopmq::Result<()> {
    let properties = forwarded(incoming, to, queue);
    let context = incoming.context();
    let first = context.forward("", &to.queue, &properties, incoming.body_bytes()).await;
    match first {
        // The queue was deleted since the app began.
        Err(error) if error.kind() == ErrorKind::Returned => {
            topology::declare(context.connection(), &[], &[queue]).await.map_err(|declared| {
                hopmq::Error::with_source(ErrorKind::Returned, format!("no queue {}", to.queue), declared)
            })?;
            context.forward("", &to.queue, &properties, incoming.body_bytes()).await
        }
        other => other,
    }
}

/// How much a moved message says about its failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// Only the attempt.
    Attempt,
    /// The class of the error as well.
    Class,
    /// The beginning of the error as well, and the queue.
    Short,
    /// The error, and where the message came from.
    Full,
}

/// Returns the properties of a message that is moved: its own, and where it came from and why. They must fit into one
/// frame: what does not is shortened or left out, first of the error, and at last of the message's own headers.
fn forwarded(incoming: &Incoming, to: &Forward, queue: &Queue) -> Properties {
    let policy = queue.policy();
    let stays = [policy.dead_letter, policy.parked].iter().flatten().any(|end| *end == to.queue);
    let room = (incoming.context().connection().frame_max() as usize).saturating_sub(AROUND);
    let room = if stays { room } else { room.saturating_sub(FOR_DEATHS) };
    for detail in [Detail::Full, Detail::Short, Detail::Class, Detail::Attempt] {
        let properties = annotated(incoming, to, detail, &[]);
        if properties.as_bytes().len() <= room {
            return properties;
        }
    }
    let headers = incoming.headers().unwrap_or_default();
    let mut sizes: Vec<_> = headers.iter().map(|(key, value)| (FieldTable::from_iter([(key, value)]), key)).collect();
    sizes.sort_by_key(|(alone, _)| std::cmp::Reverse(alone.as_bytes().len()));
    let largest: Vec<_> = sizes.iter().map(|(_, key)| *key).collect();
    let fits = (1..largest.len())
        .find(|count| annotated(incoming, to, Detail::Short, &largest[..*count]).as_bytes().len() <= room);
    let omitted = &largest[..fits.unwrap_or(largest.len())];
    tracing::warn!(queue = queue.name(), ?omitted, "headers fill a frame: the largest are left out of a moved message");
    annotated(incoming, to, Detail::Short, omitted)
}

fn annotated(incoming: &Incoming, to: &Forward, detail: Detail, omitted: &[&str]) -> Properties {
    let moved = moved(incoming, omitted, |table| {
        table.insert(headers::ATTEMPT, i64::from(to.attempt));
        if detail >= Detail::Class {
            table.insert(headers::ERROR_CLASS, headers::shortened(to.failure.class(), headers::CLASS_BYTES));
        }
        if detail >= Detail::Short {
            let most = if detail == Detail::Full { headers::ERROR_BYTES } else { headers::SHORT_ERROR_BYTES };
            table.insert(headers::ERROR, headers::shortened(to.failure.text(), most));
            table.insert(headers::QUEUE, incoming.queue());
        }
        if detail == Detail::Full {
            insert_origin(incoming, table);
        }
    });
    match to.expiration {
        Some(time) => moved.with_time_to_live(time),
        None => moved,
    }
}

/// Adds where a message was first published.
pub(crate) fn insert_origin(incoming: &Incoming, table: &mut FieldTable) {
    table.insert(headers::EXCHANGE, incoming.exchange());
    table.insert(headers::ROUTING_KEY, incoming.routing_key());
}

/// Returns the properties of a message that is moved: its own without the expiration and some headers, and more
/// headers.
pub(crate) fn moved(incoming: &Incoming, omitted: &[&str], more: impl FnOnce(&mut FieldTable)) -> Properties {
    let mut table = FieldTable::new();
    if let Ok(original) = incoming.headers() {
        for (key, value) in original.iter() {
            if !headers::DROPPED.contains(&key) && !headers::OWN.contains(&key) && !omitted.contains(&key) {
                table.insert(key, value);
            }
        }
    }
    more(&mut table);
    // The user's name is left out: the broker refuses that of another user.
    let original = incoming.properties();
    let mut moved = Properties::new().with_headers(&table);
    macro_rules! copy {
        ($($read:ident $write:ident)*) => {$(
            if let Some(value) = original.$read() {
                moved = moved.$write(value);
            }
        )*};
    }
    copy! {
        content_type with_content_type
        content_encoding with_content_encoding
        correlation_id with_correlation_id
        reply_to with_reply_to
        message_id with_message_id
        kind with_kind
        app_id with_app_id
        delivery_mode with_delivery_mode
        priority with_priority
        timestamp with_timestamp
    }
    moved
}

/// Answers a message, and settles it. Returns the message if there is no room for the answer now, or no channel yet.
///
/// An answer that can't be sent is lost, as one is whose asker has gone: the message is done all the same.
pub(super) fn answer_now(
    mut incoming: Incoming,
    reply: &Payload,
    how: Settle,
    task: &mut TaskContext<'_>,
) -> Option<Incoming> {
    if let Some(reply_to) = reply_to(&incoming) {
        let Some(channel) = incoming.context().open_answers() else { return Some(incoming) };
        let properties = answered(&incoming, reply);
        let mut publish = channel.publish("", reply_to, &*reply.body).properties(&properties).send();
        let sent = Pin::new(&mut publish).poll(task);
        drop(publish);
        match sent {
            Poll::Ready(sent) => note(&incoming, sent),
            Poll::Pending => return Some(incoming),
        }
    }
    settle(&mut incoming, how);
    None
}

async fn answer(incoming: &Incoming, reply: &Payload) {
    let Some(reply_to) = reply_to(incoming) else { return };
    let properties = answered(incoming, reply);
    let sent = async {
        let channel = incoming.context().answers().await?;
        channel.publish("", reply_to, reply.body.clone()).properties(&properties).send().await
    };
    note(incoming, sent.await);
}

fn note(incoming: &Incoming, sent: hopmq::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!(queue = incoming.queue(), %error, "an answer could not be sent");
    }
}

fn reply_to(incoming: &Incoming) -> Option<&str> {
    let reply_to = incoming.message().properties().reply_to();
    if reply_to.is_none() {
        tracing::debug!(queue = incoming.queue(), "a handler answered a message without reply-to");
    }
    reply_to
}

fn answered(incoming: &Incoming, reply: &Payload) -> Properties {
    let mut properties = reply.describe(Properties::new());
    if let Some(fault) = &reply.fault {
        properties = properties.with_header(headers::FAULT, &**fault);
    }
    match incoming.message().properties().correlation_id() {
        Some(id) => properties.with_correlation_id(id),
        None => properties,
    }
}
