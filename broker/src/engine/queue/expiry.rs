//! Expiry of messages (`x-message-ttl`, `expiration`) and of unused queues (`x-expires`): RabbitMQ's page "Time-To-Live
//! and Expiration".
//!
//! Messages expire at the front of their queue, when the queue's timer fires or when they would be delivered.

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::queue::dead_letter::Reason;

impl Engine {
    /// Drops the expired messages at the front.
    pub(in crate::engine) fn expire_ready(&mut self, id: QueueKey) {
        let now = self.now;
        while let Some(queue) = self.queues.get_mut(id)
            && let Some(entry) = queue.ready.pop_expired(now)
        {
            self.give_up(id, entry, Reason::Expired);
        }
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
        self.set_queue_timer(id);
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
