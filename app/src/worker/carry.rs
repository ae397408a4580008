//! Carries out a plan: replies, forwards with a confirm, then settles.
//!
//! In come a message and its [`Plan`]; out go publishes and one settlement. It must never settle a message as done
//! before its forward is confirmed, and must decide nothing.

use std::sync::Arc;
use std::time::Duration;

use hopmq::{Acker, ErrorKind, FieldTable, Properties};

use crate::flow::{Forward, Payload, Plan, Settle, headers};
use crate::incoming::Incoming;
use crate::topology::{self, Queue};

/// The wait after a forward that failed, before the message goes back to its queue.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

pub(super) async fn carry(mut incoming: Incoming, plan: Plan, queue: Arc<Queue>) {
    if let Some(reply) = &plan.reply {
        answer(&incoming, reply).await;
    }
    let mut settle = plan.settle;
    if let Some(to) = &plan.forward
        && let Err(error) = forward(&incoming, to, &queue).await
    {
        tracing::warn!(queue = queue.name(), to = to.queue, %error, "a message could not be moved, and goes back");
        incoming.context().sleep(AFTER_FAILURE).await;
        settle = Settle::RejectRequeue;
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

async fn forward(incoming: &Incoming, to: &Forward, queue: &Queue) -> hopmq::Result<()> {
    let properties = forwarded(incoming, to);
    let context = incoming.context();
    let first = context.publish("", &to.queue, &properties, incoming.body_bytes()).await;
    match first {
        // The queue was deleted since the app began.
        Err(error) if error.kind() == ErrorKind::Returned => {
            topology::declare(context.connection(), &[], &[queue]).await.map_err(|declared| {
                hopmq::Error::with_source(ErrorKind::Returned, format!("no queue {}", to.queue), declared)
            })?;
            context.publish("", &to.queue, &properties, incoming.body_bytes()).await
        }
        other => other,
    }
}

/// Returns the properties of a message that is moved: its own, and where it came from and why.
fn forwarded(incoming: &Incoming, to: &Forward) -> Properties {
    let mut table = FieldTable::new();
    if let Ok(original) = incoming.headers() {
        for (key, value) in original.iter() {
            if !headers::DROPPED.contains(&key) {
                table.insert(key, value);
            }
        }
    }
    table.insert(headers::ATTEMPT, i64::from(to.attempt));
    table.insert(headers::ERROR_CLASS, headers::shortened(to.failure.class()));
    table.insert(headers::ERROR, headers::shortened(to.failure.text()));
    table.insert(headers::QUEUE, incoming.queue());
    table.insert(headers::EXCHANGE, incoming.exchange());
    table.insert(headers::ROUTING_KEY, incoming.routing_key());
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
    match to.expiration {
        Some(time) => moved.with_time_to_live(time),
        None => moved,
    }
}

/// An answer that can't be sent is lost, as one is whose asker has gone: the message is done all the same.
async fn answer(incoming: &Incoming, reply: &Payload) {
    let asked = incoming.properties();
    let Some(reply_to) = asked.reply_to() else {
        tracing::debug!(queue = incoming.queue(), "a handler answered a message without reply-to");
        return;
    };
    let mut properties = Properties::new();
    if let Some(id) = asked.correlation_id() {
        properties = properties.with_correlation_id(id);
    }
    if !reply.content_type.is_empty() {
        properties = properties.with_content_type(&reply.content_type);
    }
    if let Some(fault) = &reply.fault {
        properties = properties.with_header(headers::FAULT, &**fault);
    }
    let channel = match incoming.context().channel().await {
        Ok(channel) => channel,
        Err(error) => return tracing::warn!(queue = incoming.queue(), %error, "an answer could not be sent"),
    };
    let sent = channel.publish("", reply_to, reply.body.clone()).properties(&properties).send().await;
    if let Err(error) = sent {
        tracing::warn!(queue = incoming.queue(), %error, "an answer could not be sent");
    }
}
