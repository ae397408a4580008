//! Length limits (`x-max-length`, `x-max-length-bytes`): RabbitMQ's page "Queue Length Limit".

use crate::engine::Engine;
use crate::engine::keys::QueueKey;
use crate::engine::queue::Queue;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::queue::settings::Overflow;

impl Queue {
    /// Whether the ready messages exceed a limit.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.settings.max_length.is_some_and(|max| self.ready.len() as u64 > max)
            || self.settings.max_bytes.is_some_and(|max| self.ready.bytes() > max)
    }

    /// Whether one more message, with a body of `size` bytes, would exceed a limit. Dead messages that the queue keeps
    /// count as well, as in RabbitMQ.
    #[inline]
    pub(crate) fn is_full_for(&self, size: usize) -> bool {
        let (count, bytes) = (self.ready.len() + self.dead.len(), self.ready.bytes() + self.dead.bytes());
        self.settings.max_length.is_some_and(|max| count as u64 >= max)
            || self.settings.max_bytes.is_some_and(|max| bytes + size as u64 > max)
    }
}

impl Engine {
    /// Drops messages while a queue exceeds its limit, unless it refuses new messages instead.
    pub(in crate::engine) fn drop_above_limit(&mut self, id: QueueKey) {
        while let Some(queue) = self.queues.get_mut(id)
            && queue.settings.overflow == Overflow::DropHead
            && queue.is_over()
            && let Some(entry) = queue.ready.pop()
        {
            self.drop_message(id, entry, Reason::TooLong);
        }
    }
}
