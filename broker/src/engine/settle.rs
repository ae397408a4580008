//! Settling deliveries: acks, and what is given back.

use hopmq_proto::method::basic;

use super::refusal::Refusal;
use super::unacked::Held;
use super::{At, Engine};

fn unknown(tag: u64) -> Refusal {
    Refusal::precondition(format_args!("unknown delivery tag {tag}"))
}

impl Engine {
    pub(super) fn ack(&mut self, at: At, tag: u64, multiple: bool) -> Result<(), Refusal> {
        if !multiple {
            let session = self.sessions.get_mut(at.session);
            let Some(channel) = session.and_then(|session| session.channel_mut(at.channel)) else { return Ok(()) };
            let held = channel.unacked.remove(tag).ok_or_else(|| unknown(tag))?;
            channel.consuming -= u32::from(held.consumer.is_some());
            self.acked(at, held);
            return Ok(());
        }
        for held in self.take_held(at, tag, true)? {
            self.acked(at, held);
        }
        Ok(())
    }

    pub(super) fn nack(&mut self, at: At, tag: u64, multiple: bool, requeue: bool) -> Result<(), Refusal> {
        let all = self.take_held(at, tag, multiple)?;
        if requeue {
            self.requeue(all);
        } else {
            for held in all {
                self.acked(at, held);
            }
        }
        Ok(())
    }

    /// Takes one delivery, or all up to it, from the channel that holds them. With `multiple`, zero means all.
    fn take_held(&mut self, at: At, tag: u64, multiple: bool) -> Result<Vec<Held>, Refusal> {
        let session = self.sessions.get_mut(at.session);
        let Some(channel) = session.and_then(|session| session.channel_mut(at.channel)) else { return Ok(Vec::new()) };
        let held: Vec<Held> = match (multiple, tag) {
            (true, 0) => channel.unacked.take(),
            (true, _) if !channel.unacked.contains(tag) => return Err(unknown(tag)),
            (true, _) => std::iter::from_fn(|| channel.unacked.pop_up_to(tag)).collect(),
            (false, _) => vec![channel.unacked.remove(tag).ok_or_else(|| unknown(tag))?],
        };
        channel.consuming -= held.iter().filter(|held| held.consumer.is_some()).count() as u32;
        Ok(held)
    }

    /// A delivery is done with.
    fn acked(&mut self, at: At, held: Held) {
        if let Some(queue) = self.queues.get_mut(held.queue) {
            queue.unacked -= 1;
        }
        self.settled(held.queue, held.entry);
        let Some(id) = held.consumer else { return };
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.unacked -= 1;
            if consumer.waiting {
                self.resume(id);
            }
        }
        self.resume_others(at);
    }

    /// What was settled may make room for other consumers of the channel.
    fn resume_others(&mut self, at: At) {
        let session = self.sessions.get_mut(at.session);
        let Some(channel) = session.and_then(|session| session.channel_mut(at.channel)) else { return };
        if channel.global_prefetch > 0 {
            for consumer in channel.consumers.clone() {
                self.resume(consumer);
            }
        }
    }

    /// Gives deliveries back to their queues, each to its place.
    pub(super) fn requeue(&mut self, all: Vec<Held>) {
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
            entry.returned += 1;
            queue.ready.put_back(entry);
            if !queues.contains(&held.queue) {
                queues.push(held.queue);
            }
        }
        for queue in queues {
            self.drop_above_limit(queue);
            self.drive(queue);
            self.set_alarm(queue);
        }
        for consumer in consumers {
            self.resume(consumer);
        }
    }

    pub(super) fn recover(&mut self, at: At, requeue: bool, answer: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        let held = self.take_held(at, 0, true)?;
        if answer {
            self.answer(at, &basic::RecoverOk {});
        }
        self.requeue(held);
        Ok(())
    }
}
