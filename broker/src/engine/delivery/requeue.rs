//! Returns deliveries to their queues.
//!
//! Owns the order: first all messages go back to their places, then the queues deliver. Until then the queues deliver
//! to no consumer, so that no consumer gets a message before one that was returned to a place in front of it. It must
//! never know why the deliveries return.

use std::collections::{BTreeSet, VecDeque};

use crate::engine::delivery::acks::Deliveries;
use crate::engine::delivery::unacked::{Held, Unacked};
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, QueueKey};
use crate::engine::persistence::journal::is_for_store_alone;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::work::Task;
use crate::engine::{At, Engine};

/// Deliveries that return to their queues. See the [module's documentation](self).
#[derive(Debug)]
pub(in crate::engine) struct Requeue {
    /// Their channel, if it is open.
    at: Option<At>,
    deliveries: Deliveries,
    /// Whether a delivery may reach the limit of a quorum queue.
    counts: bool,
    held_back: HeldBack,
    consumers: VecDeque<ConsumerKey>,
}

/// The queues that deliver to no consumer until all messages are back.
#[derive(Debug, Default)]
pub(in crate::engine) struct HeldBack {
    /// In the order in which they deliver then.
    queues: VecDeque<QueueKey>,
    known: BTreeSet<QueueKey>,
}

impl Requeue {
    /// Requeues deliveries of an open channel.
    pub(in crate::engine) fn of_channel(at: At, deliveries: Deliveries, counts: bool) -> Self {
        Self { at: Some(at), deliveries, counts, held_back: HeldBack::default(), consumers: VecDeque::new() }
    }

    /// Requeues the deliveries of a closed channel, and lets the queues deliver that were held back for it.
    pub(in crate::engine) fn of_closed(all: Unacked, held_back: HeldBack) -> Self {
        let deliveries = Deliveries::All(all);
        Self { at: None, deliveries, counts: true, held_back, consumers: VecDeque::new() }
    }

    /// Requeues deliveries that their channel has lost, and lets the queues deliver that were held back for it.
    pub(in crate::engine) fn of_lapsed(these: VecDeque<Held>, held_back: HeldBack) -> Self {
        let deliveries = Deliveries::These(these);
        Self { at: None, deliveries, counts: false, held_back, consumers: VecDeque::new() }
    }
}

impl Engine {
    /// Returns deliveries to their places in their queues. Returns the rest.
    pub(in crate::engine) fn requeue_some(&mut self, mut requeue: Requeue) -> Option<Task> {
        while let Some(held) = self.next_to_requeue(&mut requeue) {
            self.work.count(1);
            self.requeue_one(&mut requeue, held);
            if self.work.must_stop() {
                return Some(Task::Requeue(requeue));
            }
        }
        while let Some(id) = requeue.held_back.queues.pop_front() {
            self.work.count(1);
            let Some(queue) = self.queues.get_mut(id) else { continue };
            queue.requeues -= 1;
            if queue.is_deleted {
                continue;
            }
            self.drop_above_limit(id);
            self.drive(id);
            self.set_queue_timer(id);
            if self.work.must_stop() {
                return Some(Task::Requeue(requeue));
            }
        }
        let shared = requeue.at.filter(|at| self.is_shared(*at));
        self.work.leave(Task::Resume(requeue.consumers));
        shared.map(Task::ResumeAll)
    }

    fn next_to_requeue(&mut self, requeue: &mut Requeue) -> Option<Held> {
        match requeue.at {
            Some(at) => {
                let held = self.next_delivery(at, &mut requeue.deliveries)?;
                self.uncount(at, &held);
                Some(held)
            }
            None => match &mut requeue.deliveries {
                Deliveries::UpTo(_) => None,
                Deliveries::These(these) => these.pop_front(),
                Deliveries::All(all) => all.pop_up_to(u64::MAX),
            },
        }
    }

    fn requeue_one(&mut self, requeue: &mut Requeue, held: Held) {
        let now = self.now;
        let is_low = self.is_paging();
        if let Some(id) = held.consumer
            && let Some(consumer) = self.consumers.get_mut(id)
        {
            consumer.unacked -= 1;
            if requeue.consumers.back() != Some(&id) {
                requeue.consumers.push_back(id);
            }
        }
        let Some(queue) = self.queues.get_mut(held.queue) else { return };
        queue.unacked -= 1;
        if queue.is_deleted {
            return;
        }
        let mut entry = held.entry;
        entry.redelivered = true;
        entry.acquired = entry.acquired.saturating_add(1);
        entry.returned += u32::from(requeue.counts || !queue.settings.quorum);
        if queue.settings.delivery_limit.is_some_and(|limit| entry.returned > limit) {
            return self.drop_message(held.queue, entry, Reason::DeliveryLimit);
        }
        self.note_returned(held.queue, &entry);
        let Some(queue) = self.queues.get_mut(held.queue).invariant("queue") else { return };
        match queue.settings.delayed_retry.as_ref().and_then(|retry| retry.delay(entry.acquired, requeue.counts)) {
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
        self.hold_back(&mut requeue.held_back, held.queue);
    }

    /// Lets a queue deliver to no consumer until a requeue is done.
    pub(in crate::engine) fn hold_back(&mut self, held: &mut HeldBack, id: QueueKey) {
        if held.known.insert(id)
            && let Some(queue) = self.queues.get_mut(id)
        {
            queue.requeues += 1;
            held.queues.push_back(id);
        }
    }
}
