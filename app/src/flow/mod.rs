//! The decision about a message: a pure function from what a handler said to what must happen.
//!
//! Owns the retry policy, the header names and [`decide`]. In come a [`Policy`], the [`Facts`] of a message and a
//! [`Verdict`]; out goes a [`Plan`]. It must never know a connection, a clock or a runtime, so that the async, the
//! blocking and the Python executors decide alike, and mixed workers on one queue agree.

mod backoff;
pub mod headers;
mod policy;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::Duration;

pub use backoff::Backoff;
pub(crate) use backoff::LONGEST_IN_SLOT;
pub use policy::Policy;
pub use verdict::{Failure, Payload, Verdict};

/// A wait shorter than this happens in the slot of the handler; a longer one in a queue.
pub const IN_SLOT: Duration = Duration::from_secs(1);

/// What is known about a message when its handler has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which attempt this was, beginning with 1: the header [`headers::ATTEMPT`] plus the attempts in the slot.
    pub attempt: u32,
    /// A random number for the jitter.
    pub random: u32,
}

/// What must happen with a message, in this order: the reply, the forward, the settlement.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Call the handler again in its slot after this time. Nothing else happens then.
    pub again: Option<Duration>,
    /// Publish this to the `reply-to` of the message.
    pub reply: Option<Payload>,
    /// Publish the message to another queue, mandatory and confirmed, before it is settled.
    pub forward: Option<Forward>,
    /// How the delivery is settled.
    pub settle: Settle,
}

/// The publish that moves a message to another queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The queue, reached through the default exchange.
    pub queue: String,
    /// The attempt that follows, for [`headers::ATTEMPT`].
    pub attempt: u32,
    /// The time to live, if it is shorter than that of the queue.
    pub expiration: Option<Duration>,
    /// Why the message is moved.
    pub failure: Failure,
}

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The handler has taken the delivery and settles it.
    Nothing,
    /// `basic.ack`.
    Ack,
    /// `basic.reject` without requeue: the queue's dead-letter exchange takes the message, if it has one.
    Reject,
    /// `basic.reject` with requeue, which counts towards the delivery limit on every release.
    RejectRequeue,
    /// `basic.nack` with requeue, which RabbitMQ 4.3 does not count.
    NackRequeue,
}

impl Plan {
    fn settle(settle: Settle) -> Self {
        Self { again: None, reply: None, forward: None, settle }
    }

    fn forward(queue: &str, attempt: u32, expiration: Option<Duration>, failure: Failure) -> Self {
        let forward = Forward { queue: queue.to_owned(), attempt, expiration, failure };
        Self { forward: Some(forward), ..Self::settle(Settle::Ack) }
    }
}

/// Decides what happens with a message after its handler has ended.
pub fn decide(policy: &Policy, facts: Facts, verdict: Verdict) -> Plan {
    match verdict {
        Verdict::Ack => Plan::settle(Settle::Ack),
        Verdict::Taken => Plan::settle(Settle::Nothing),
        Verdict::Release => Plan::settle(Settle::NackRequeue),
        Verdict::Reply(reply) => Plan { reply: Some(reply), ..Plan::settle(Settle::Ack) },
        Verdict::Reject(failure) => dead_letter(policy, facts, failure),
        Verdict::Park(failure) => match &policy.parked {
            Some(queue) => Plan::forward(queue, facts.attempt, None, failure),
            None => dead_letter(policy, facts, failure),
        },
        Verdict::Retry(failure) => retry(policy, facts, failure),
    }
}

/// Decides about a message before its handler is called: a message whose deliveries have ended the program, or the
/// link, too often is parked. `deliveries` is the header `x-delivery-count` that quorum queues set; where the broker
/// counts the attempts, it says nothing about that.
pub fn admit(policy: &Policy, deliveries: u32) -> Option<Verdict> {
    let limited = policy.delivery_limit > 0 && !policy.by_broker;
    (limited && deliveries >= policy.delivery_limit).then(|| {
        let text = format!("the message came back {deliveries} times without an outcome of its handler");
        Verdict::Park(Failure::new("delivery-limit", text))
    })
}

fn retry(policy: &Policy, facts: Facts, failure: Failure) -> Plan {
    let backoff = policy.backoff(failure.class());
    let Some(delay) = backoff.delay(facts.attempt) else {
        return dead_letter(policy, facts, failure);
    };
    if policy.by_broker {
        return Plan::settle(Settle::RejectRequeue);
    }
    let asked = failure.after_time().unwrap_or(delay);
    let step = if policy.in_slot || asked < IN_SLOT { None } else { policy.step(asked) };
    let Some(step) = step else {
        let jittered = backoff.jittered(asked.min(LONGEST_IN_SLOT), facts.random);
        return Plan { again: Some(jittered), ..Plan::settle(Settle::Nothing) };
    };
    let jittered = backoff.jittered(asked.min(step), facts.random);
    let expiration = (jittered < step).then_some(jittered);
    Plan::forward(&headers::retry_queue(&policy.queue, step), facts.attempt + 1, expiration, failure)
}

fn dead_letter(policy: &Policy, facts: Facts, failure: Failure) -> Plan {
    match &policy.dead_letter {
        Some(queue) => Plan::forward(queue, facts.attempt, None, failure),
        None => Plan::settle(Settle::Reject),
    }
}
