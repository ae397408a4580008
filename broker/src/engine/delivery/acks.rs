//! Settles deliveries: acks, rejects and requeues.

use std::collections::VecDeque;

use hopmq_proto::method::basic;

use crate::engine::delivery::requeue::Requeue;
use crate::engine::delivery::unacked::{Held, Unacked};
use crate::engine::invariant::Invariant;
use crate::engine::keys::ConsumerKey;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::refusal::Refusal;
use crate::engine::work::Task;
use crate::engine::{At, Engine};

/// Deliveries that are being settled.
#[derive(Debug)]
pub(in crate::engine) struct Settling {
    pub(in crate::engine) at: At,
    pub(in crate::engine) verdict: Verdict,
    pub(in crate::engine) deliveries: Deliveries,
}

/// Some deliveries of a channel, by tag.
#[derive(Debug)]
pub(in crate::engine) enum Deliveries {
    /// Those that the channel has up to a tag.
    UpTo(u64),
    /// Those that were taken out of it.
    These(VecDeque<Held>),
    /// Those of a channel that is closed.
    All(Unacked),
}

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
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(()) };
        if !channel.unacked.contains(tag) && (!multiple || tag > 0) {
            return Err(unknown(tag));
        }
        let deliveries = match (multiple, tag) {
            (true, 0) => Deliveries::UpTo(channel.delivered),
            (true, _) => Deliveries::UpTo(tag),
            (false, _) => Deliveries::These(channel.unacked.remove(tag).into_iter().collect()),
        };
        let settling = Settling { at, verdict, deliveries };
        match &mut channel.pending {
            Some(pending) => {
                pending.settled.push((verdict, VecDeque::new()));
                self.work.leave(Task::Collect(settling));
            }
            None => self.settle(settling),
        }
        Ok(())
    }

    /// Settles deliveries of a channel.
    pub(in crate::engine) fn settle(&mut self, settling: Settling) {
        let Settling { at, verdict, deliveries } = settling;
        self.work.leave(match verdict {
            Verdict::Acked | Verdict::Rejected => Task::Settle(Settling { at, verdict, deliveries }),
            Verdict::Requeued | Verdict::Returned => {
                Task::Requeue(Requeue::of_channel(at, deliveries, verdict == Verdict::Requeued))
            }
        });
    }

    /// Acknowledges or rejects deliveries. Returns the rest.
    pub(in crate::engine) fn settle_some(&mut self, mut settling: Settling) -> Option<Task> {
        let at = settling.at;
        while let Some(held) = self.next_delivery(at, &mut settling.deliveries) {
            self.work.count(1);
            match settling.verdict {
                Verdict::Rejected => self.rejected(at, held),
                _ => self.acked(at, held),
            }
            if self.work.must_stop() {
                return Some(Task::Settle(settling));
            }
        }
        None
    }

    /// Moves deliveries to what a transaction has settled. Returns the rest.
    pub(in crate::engine) fn collect_some(&mut self, mut settling: Settling) -> Option<Task> {
        let at = settling.at;
        while let Some(held) = self.next_delivery(at, &mut settling.deliveries) {
            self.work.count(1);
            let pending = self.channel_mut(at).and_then(|channel| channel.pending.as_mut());
            if let Some((_, settled)) = pending.and_then(|pending| pending.settled.last_mut()) {
                settled.push_back(held);
            }
            if self.work.must_stop() {
                return Some(Task::Collect(settling));
            }
        }
        None
    }

    /// Takes the next one of some deliveries of a channel.
    pub(in crate::engine) fn next_delivery(&mut self, at: At, deliveries: &mut Deliveries) -> Option<Held> {
        match deliveries {
            Deliveries::UpTo(tag) => self.channel_mut(at)?.unacked.pop_up_to(*tag),
            Deliveries::These(these) => these.pop_front(),
            Deliveries::All(all) => all.pop_up_to(u64::MAX),
        }
    }

    fn rejected(&mut self, at: At, held: Held) {
        self.uncount(at, &held);
        if let Some(queue) = self.queues.get_mut(held.queue) {
            queue.unacked -= 1;
        }
        self.drop_message(held.queue, held.entry, Reason::Rejected);
        self.resume_settled(at, held.consumer);
    }

    /// Takes a delivery out of those that its channel has consumed.
    pub(in crate::engine) fn uncount(&mut self, at: At, held: &Held) {
        if held.consumer.is_some()
            && let Some(channel) = self.channel_mut(at)
        {
            channel.consuming -= 1;
        }
    }

    /// Settles an acknowledged delivery.
    fn acked(&mut self, at: At, held: Held) {
        self.uncount(at, &held);
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
    pub(super) fn is_shared(&mut self, at: At) -> bool {
        self.channel_mut(at).is_some_and(|channel| channel.global_prefetch > 0)
    }

    pub(in crate::engine) fn requeue_all(&mut self, at: At, requeue: bool, answer: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        if answer {
            self.answer(at, &basic::RecoverOk {});
        }
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(()) };
        let deliveries = Deliveries::UpTo(channel.delivered);
        let counts = self.config.profile.counts_nacks();
        self.work.leave(Task::Requeue(Requeue::of_channel(at, deliveries, counts)));
        Ok(())
    }
}
