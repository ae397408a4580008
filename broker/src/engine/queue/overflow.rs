//! Length limits (`x-max-length`, `x-max-length-bytes`): RabbitMQ's page "Queue Length Limit".

use crate::engine::Engine;
use crate::engine::keys::QueueKey;
use crate::engine::queue::Queue;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::queue::settings::Overflow;
use crate::engine::work::Task;

impl Queue {
    /// Whether the ready messages exceed a limit.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.settings.max_length.is_some_and(|max| self.ready.len() as u64 > max)
            || self.settings.max_bytes.is_some_and(|max| self.ready.bytes() > max)
    }

    /// Whether a message with a body of `size` bytes is refused: one more would exceed a limit. A quorum queue refuses
    /// messages only once it exceeds a limit, as in RabbitMQ. Dead messages that the queue keeps count as well.
    #[inline]
    pub(crate) fn is_full_for(&self, size: usize) -> bool {
        let more = if self.settings.quorum { (0, 0) } else { (1, size as u64) };
        let count = (self.ready.len() + self.dead.len()) as u64 + more.0;
        let bytes = self.ready.bytes() + self.dead.bytes() + more.1;
        self.settings.max_length.is_some_and(|max| count > max)
            || self.settings.max_bytes.is_some_and(|max| bytes > max)
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
            if self.work.is_spent() {
                return self.work.leave(Task::Shorten(id));
            }
        }
    }
}
