//! Settles deliveries: acks, rejects and requeues.

use hopmq_proto::method::basic;

use crate::engine::delivery::unacked::Held;
use crate::engine::invariant::Invariant;
use crate::engine::keys::ConsumerKey;
use crate::engine::persistence::journal::is_for_store_alone;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::refusal::Refusal;
use crate::engine::{At, Engine};

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Acked,
    Requeued,
    /// Requeued without counting towards the delivery limit.
    Returned,
    Rejected,
}

impl Verdict {
    /// Returns the verdict of a negative acknowledgement.
    pub(in crate::engine) fn of(requeue: bool, counts: bool) -> Self {
        match (requeue, counts) {
            (false, _) => Self::Rejected,
            (true, true) => Self::Requeued,
            (true, false) => Self::Returned,
        }
    }
}

fn unknown(tag: u64) -> Refusal {
    Refusal::precondition(format_args!("unknown delivery tag {tag}"))
}

impl Engine {
    pub(in crate::engine) fn ack(&mut self, at: At, tag: u64, multiple: bool) -> Result<(), Refusal> {
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(()) };
        if !multiple && channel.pending.is_none() {
            let held = channel.unacked.remove(tag).ok_or_else(|| unknown(tag))?;
            self.acked(at, held);
            return Ok(());
        }
        self.take_and_settle(at, tag, multiple, Verdict::Acked)
    }

    pub(in crate::engine) fn nack(
        &mut self,
        at: At,
        tag: u64,
        multiple: bool,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        self.take_and_settle(at, tag, multiple, verdict)
    }

    fn take_and_settle(&mut self, at: At, tag: u64, multiple: bool, verdict: Verdict) -> Result<(), Refusal> {
        let all = self.take_held(at, tag, multiple)?;
        match self.channel_mut(at).and_then(|channel| channel.pending.as_mut()) {
            Some(pending) => pending.settled.push((verdict, all)),
            None => self.settle(at, verdict, all),
        }
        Ok(())
    }

    /// Settles deliveries of a channel.
    pub(in crate::engine) fn settle(&mut self, at: At, verdict: Verdict, all: Vec<Held>) {
        match verdict {
            Verdict::Acked => all.into_iter().for_each(|held| self.acked(at, held)),
            Verdict::Requeued | Verdict::Returned => {
                self.uncount(at, &all);
                self.requeue(all, verdict == Verdict::Requeued);
                if self.is_shared(at) {
                    self.resume_all(at);
                }
            }
            Verdict::Rejected => {
                self.uncount(at, &all);
                for held in all {
                    if let Some(queue) = self.queues.get_mut(held.queue) {
                        queue.unacked -= 1;
                    }
                    self.drop_message(held.queue, held.entry, Reason::Rejected);
                    self.resume_settled(at, held.consumer);
                }
            }
        }
    }

    fn uncount(&mut self, at: At, all: &[Held]) {
        if let Some(channel) = self.channel_mut(at) {
            channel.consuming -= all.iter().filter(|held| held.consumer.is_some()).count() as u32;
        }
    }

    /// Takes one delivery, or all up to it, out of a channel's unacked ones. With `multiple`, zero means all.
    fn take_held(&mut self, at: At, tag: u64, multiple: bool) -> Result<Vec<Held>, Refusal> {
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(Vec::new()) };
        Ok(match (multiple, tag) {
            (true, 0) => channel.unacked.take(),
            (true, _) if !channel.unacked.contains(tag) => return Err(unknown(tag)),
            (true, _) => std::iter::from_fn(|| channel.unacked.pop_up_to(tag)).collect(),
            (false, _) => vec![channel.unacked.remove(tag).ok_or_else(|| unknown(tag))?],
        })
    }

    /// Settles an acknowledged delivery.
    fn acked(&mut self, at: At, held: Held) {
        if held.consumer.is_some()
            && let Some(channel) = self.channel_mut(at)
        {
            channel.consuming -= 1;
        }
        if let Some(queue) = self.queues.get_mut(held.queue) {
            queue.unacked -= 1;
        }
        self.settled(held.queue, &held.entry);
        self.resume_settled(at, held.consumer);
    }

    /// Resumes a consumer that has one unacked delivery less, or all of its channel if they share a limit.
    fn resume_settled(&mut self, at: At, consumer: Option<ConsumerKey>) {
        let Some(id) = consumer else { return };
        let is_shared = self.is_shared(at);
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.unacked -= 1;
            if consumer.waiting && !is_shared {
                self.resume(id);
            }
        }
        if is_shared {
            self.resume_all(at);
        }
    }

    /// Whether the consumers of a channel share a limit.
    fn is_shared(&mut self, at: At) -> bool {
        self.channel_mut(at).is_some_and(|channel| channel.global_prefetch > 0)
    }

    /// Returns deliveries to their places in their queues. If it `counts`, a delivery may reach the limit of a quorum
    /// queue.
    pub(in crate::engine) fn requeue(&mut self, all: Vec<Held>, counts: bool) {
        let now = self.now;
        let is_low = self.is_paging();
        let mut queues = Vec::new();
        let mut consumers = Vec::new();
        for held in all {
            if let Some(id) = held.consumer
                && let Some(consumer) = self.consumers.get_mut(id)
            {
                consumer.unacked -= 1;
                consumers.push(id);
            }
            let Some(queue) = self.queues.get_mut(held.queue) else { continue };
            queue.unacked -= 1;
            let mut entry = held.entry;
            entry.redelivered = true;
            entry.acquired = entry.acquired.saturating_add(1);
            entry.returned += u32::from(counts || !queue.settings.quorum);
            if queue.settings.delivery_limit.is_some_and(|limit| entry.returned > limit) {
                self.drop_message(held.queue, entry, Reason::DeliveryLimit);
                continue;
            }
            self.note_returned(held.queue, &entry);
            let Some(queue) = self.queues.get_mut(held.queue).invariant("queue") else { continue };
            match queue.settings.delayed_retry.as_ref().and_then(|retry| retry.delay(entry.acquired, counts)) {
                Some(delay) => {
                    if is_low || is_for_store_alone(queue) {
                        entry.page_out();
                    }
                    queue.waiting.insert(now + delay, entry);
                }
                None => {
                    let is_stored = entry.stored;
                    queue.ready.put_back(entry);
                    if is_stored {
                        self.note_pageable(held.queue);
                    }
                }
            }
            if !queues.contains(&held.queue) {
                queues.push(held.queue);
            }
        }
        for queue in queues {
            self.drop_above_limit(queue);
            self.drive(queue);
            self.set_queue_timer(queue);
        }
        for consumer in consumers {
            self.resume(consumer);
        }
    }

    pub(in crate::engine) fn requeue_all(&mut self, at: At, requeue: bool, answer: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        let held = self.take_held(at, 0, true)?;
        if answer {
            self.answer(at, &basic::RecoverOk {});
        }
        self.uncount(at, &held);
        let counts = self.config.profile.counts_nacks();
        self.requeue(held, counts);
        if self.is_shared(at) {
            self.resume_all(at);
        }
        Ok(())
    }
}
