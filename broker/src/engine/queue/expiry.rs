//! Expiry of messages (`x-message-ttl`, `expiration`) and of unused queues (`x-expires`): RabbitMQ's page "Time-To-Live
//! and Expiration".
//!
//! Messages expire at the front of their queue, when the queue's timer fires or when they would be delivered.

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::queue::dead_letter::Reason;

impl Engine {
    /// Drops the expired messages at the front, as far as the budget goes. Returns whether that are all: otherwise the
    /// queue's timer is due.
    pub(in crate::engine) fn expire_ready(&mut self, id: QueueKey) -> bool {
        let now = self.now;
        while let Some(queue) = self.queues.get_mut(id)
            && let Some(entry) = queue.ready.pop_expired(now)
        {
            self.drop_message(id, entry, Reason::Expired);
            if self.work.is_spent() {
                self.set_queue_timer(id);
                let front = self.queues.get(id).and_then(|queue| queue.ready.next_expiry());
                return front.is_none_or(|at| at > now);
            }
        }
        true
    }

    /// Handles the timer of a queue: expires the queue, or its messages.
    pub(in crate::engine) fn handle_queue_timer(&mut self, id: QueueKey) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        queue.timer = None;
        let unused = queue.consumers.is_empty() && queue.settings.expires.is_some_and(|time| queue.used + time <= now);
        if unused {
            self.delete_queue(id);
            return;
        }
        self.expire_ready(id);
        self.release_waiting(id);
        self.retry_due(id);
        self.set_queue_timer(id);
    }

    /// Makes the waiting messages ready that are due, or routes those of a delayed-message exchange.
    fn release_waiting(&mut self, id: QueueKey) {
        let now = self.now;
        let mut some = false;
        while let Some(queue) = self.queues.get_mut(id)
            && let Some(entry) = queue.waiting.pop_due(now)
        {
            match queue.delays {
                Some(exchange) => self.route_delayed(id, exchange, &entry),
                None => {
                    queue.ready.put_back(entry);
                    some = true;
                }
            }
            self.work.count(1);
            if self.work.is_spent() {
                break;
            }
        }
        if some {
            self.drop_above_limit(id);
            self.drive(id);
        }
    }

    /// Sets the timer of a queue to its next deadline.
    pub(in crate::engine) fn set_queue_timer(&mut self, id: QueueKey) {
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        let deadline = queue.deadline();
        if queue.timer == deadline {
            return;
        }
        if let Some(earlier) = std::mem::replace(&mut queue.timer, deadline) {
            self.queue_timers.remove(&(earlier, id));
        }
        if let Some(deadline) = deadline {
            self.queue_timers.insert((deadline, id));
        }
    }
}
