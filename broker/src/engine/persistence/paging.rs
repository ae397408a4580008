//! Paging: above half of the memory limit, messages that the store has leave memory (RabbitMQ's
//! `vm_memory_high_watermark_paging_ratio`).
//!
//! Owns the list of queues with such messages, and where the walk over them is. New messages, and deliveries that wait
//! for their acks, leave at once; those that are ready already, in steps of [`STEP`] entries, so that no step holds the
//! lock for long. The first [`HEAD`] messages of a queue stay, because they are delivered next. A delivery reads a
//! message back ([`Engine::fetch`]). It must never know files.

use std::collections::VecDeque;

use crate::engine::Engine;
use crate::engine::keys::QueueKey;
use crate::engine::persistence::journal::is_for_store_alone;
use crate::engine::queue::Queue;

/// Entries of one step.
const STEP: usize = 256;
/// The first messages of a queue, which stay in memory.
pub(in crate::engine) const HEAD: usize = 16;

/// The walk. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(in crate::engine) struct Paging {
    /// Queues that got messages since they were walked over.
    queues: VecDeque<QueueKey>,
    /// The entry of the first queue at which the walk continues.
    at: usize,
}

impl Engine {
    /// Whether so much memory is used that messages leave it.
    #[inline]
    pub(in crate::engine) fn is_paging(&self) -> bool {
        self.meter.total() >= self.config.memory_limit / 2
    }

    /// Whether a message that the store gets is kept there only. `queue` must hold others, unless nothing is delivered
    /// from where it goes.
    #[inline]
    pub(in crate::engine) fn leaves_memory(&self, queue: &Queue) -> bool {
        is_for_store_alone(queue) || self.is_paging()
    }

    /// Notes that a queue got a message that the store has as well.
    #[inline]
    pub(in crate::engine) fn note_pageable(&mut self, id: QueueKey) {
        if let Some(queue) = self.queues.get_mut(id)
            && !std::mem::replace(&mut queue.pageable, true)
        {
            self.paging.queues.push_back(id);
        }
    }

    /// Whether [`Engine::page_out`] has work.
    #[inline]
    pub(crate) fn has_to_page(&self) -> bool {
        !self.paging.queues.is_empty() && self.is_paging()
    }

    /// Takes one step of the walk.
    pub(crate) fn page_out(&mut self) {
        let mut left = STEP;
        while left > 0
            && self.has_to_page()
            && let Some(&id) = self.paging.queues.front()
        {
            let Some(queue) = self.queues.get_mut(id) else {
                self.next_queue();
                continue;
            };
            let visited = queue.ready.page_out(HEAD + self.paging.at, left);
            self.paging.at += visited;
            if visited < left {
                queue.pageable = false;
                self.next_queue();
            }
            // A queue without messages costs a step as well.
            left -= visited.max(1);
        }
    }

    fn next_queue(&mut self) {
        self.paging.queues.pop_front();
        self.paging.at = 0;
        if self.paging.queues.is_empty() {
            self.paging.queues.shrink_to(STEP);
        }
    }
}
