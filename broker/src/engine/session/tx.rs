//! Transactions: publishes and acks take effect at the commit (specification, section 1.9).
//!
//! Owns what is uncommitted. RabbitMQ routes a message when it is published, and passes it to the queues at the commit.

use std::collections::VecDeque;

use hopmq_proto::method::{MethodId, tx};

use crate::engine::delivery::acks::{Deliveries, Settling, Verdict};
use crate::engine::delivery::requeue::{HeldBack, Requeue};
use crate::engine::delivery::unacked::{Held, Unacked};
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::meter::{Charge, Meter, Purpose};
use crate::engine::name::Name;
use crate::engine::queue::Queue;
use crate::engine::queue::message::{Message, PLACE};
use crate::engine::refusal::Refusal;
use crate::engine::session::Session;
use crate::engine::work::Task;
use crate::engine::{At, Engine};

/// What a transactional channel has not committed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) publishes: Vec<Publish>,
    /// What they take, in bytes.
    size: u64,
    pub(crate) settled: Vec<Settled>,
}

/// Deliveries that were settled together.
pub(in crate::engine) type Settled = (Verdict, VecDeque<Held>);

/// A transaction that is being committed.
#[derive(Debug)]
pub(in crate::engine) struct Commit {
    at: At,
    publishes: VecDeque<Publish>,
    settled: VecDeque<Settled>,
    has_begun: bool,
    is_partial: bool,
}

/// Deliveries that a rollback returns to their channel.
#[derive(Debug)]
pub(in crate::engine) struct Rollback {
    at: At,
    settled: VecDeque<Settled>,
}

/// A published message and its queues.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) message: Message,
    pub(crate) mandatory: bool,
    pub(crate) queues: Vec<Target>,
    /// What the list of targets takes.
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

/// A queue that a message was routed to, and that may be deleted before the commit.
#[derive(Debug)]
pub(crate) struct Target {
    key: QueueKey,
    name: Name,
    is_quorum: bool,
}

impl Publish {
    pub(crate) fn new(message: Message, mandatory: bool, queues: Vec<Target>, meter: Meter) -> Self {
        let charge = Charge::new(meter, Purpose::Messages, size_of::<Self>() + size_of::<Target>() * queues.capacity());
        Self { message, mandatory, queues, charge }
    }

    /// Returns what it takes, in bytes.
    fn size(&self) -> u64 {
        let targets = size_of::<Target>() * self.queues.len();
        (PLACE + size_of::<Self>() + targets + self.message.head().len() + self.message.body_size()) as u64
    }
}

impl Session {
    /// Takes what a channel has not committed. `None` if it is not transactional.
    pub(in crate::engine) fn take_pending(&mut self, channel: u16) -> Option<Pending> {
        let pending = self.channel_mut(channel)?.pending.as_mut().map(std::mem::take)?;
        self.uncommitted -= pending.size;
        Some(pending)
    }
}

impl Engine {
    pub(in crate::engine) fn tx_select(&mut self, at: At) -> Result<(), Refusal> {
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(()) };
        if channel.confirms.is_some() {
            return Err(Refusal::precondition("cannot switch from confirm to tx mode"));
        }
        channel.pending.get_or_insert_default();
        self.answer(at, &tx::SelectOk {});
        Ok(())
    }

    fn take_pending(&mut self, at: At) -> Result<Pending, Refusal> {
        let session = self.sessions.get_mut(at.session);
        let pending = session.and_then(|session| session.take_pending(at.channel));
        pending.ok_or_else(|| Refusal::precondition("channel is not transactional"))
    }

    /// Adds a publish that takes effect at the commit.
    pub(in crate::engine) fn add_uncommitted(&mut self, at: At, publish: Publish) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(at.session).invariant("connection") else { return Ok(()) };
        let size = publish.size();
        if let Some(pending) = session.channel_mut(at.channel).and_then(|channel| channel.pending.as_mut()) {
            pending.size += size;
            pending.publishes.push(publish);
            session.uncommitted += size;
        }
        self.check_uncommitted(at.session)
    }

    /// Returns the targets of an uncommitted message.
    pub(in crate::engine) fn targets(&self, queues: &[QueueKey]) -> Vec<Target> {
        let known = queues.iter().filter_map(|key| Some((*key, &**self.queues.get(*key)?)));
        let target = |(key, queue): (QueueKey, &Queue)| Target {
            key,
            name: queue.name.clone(),
            is_quorum: queue.settings.quorum,
        };
        known.map(target).collect()
    }

    pub(in crate::engine) fn tx_commit(&mut self, at: At) -> Result<(), Refusal> {
        let Pending { publishes, settled, .. } = self.take_pending(at)?;
        let (publishes, settled) = (publishes.into(), settled.into());
        self.work.leave(Task::Commit(Commit { at, publishes, settled, has_begun: false, is_partial: false }));
        Ok(())
    }

    /// Commits some of a transaction. Returns the rest.
    pub(in crate::engine) fn commit_some(&mut self, mut commit: Commit) -> Option<Task> {
        let at = commit.at;
        if !std::mem::replace(&mut commit.has_begun, true) {
            // A crash leaves all or nothing of a transaction that is done within one turn.
            self.work.widen();
        }
        while let Some(publish) = commit.publishes.pop_front() {
            self.work.count(1);
            commit.is_partial |= self.commit_publish(at, &publish);
            if self.work.must_stop() {
                return Some(Task::Commit(commit));
            }
        }
        while let Some((verdict, these)) = commit.settled.pop_front() {
            self.work.count(1);
            self.settle(Settling { at, verdict, deliveries: Deliveries::These(these) });
            if self.work.must_stop() {
                return Some(Task::Commit(commit));
            }
        }
        self.hold_for_all(at.session);
        if commit.is_partial {
            let refusal = Refusal::precondition("partial tx completion");
            self.refused(at.session, at.channel, MethodId::TX_COMMIT, Err(refusal));
        } else {
            self.answer(at, &tx::CommitOk {});
        }
        None
    }

    /// Passes a committed message to its queues. Returns whether one of them is gone.
    fn commit_publish(&mut self, at: At, publish: &Publish) -> bool {
        let Publish { message, mandatory, queues: targets, .. } = publish;
        let by_name = self.config.profile.finds_queues_at_commit();
        let mut is_partial = false;
        let mut queues = Vec::with_capacity(targets.len());
        for target in targets {
            let found = match by_name {
                true => self.queue_named(at.vhost, &target.name),
                false => self.queues.get(target.key).filter(|queue| !queue.is_deleted).map(|_| target.key),
            };
            // RabbitMQ 4 does not notice the loss of a quorum queue.
            is_partial |= !by_name && found.is_none() && !target.is_quorum;
            queues.extend(found);
        }
        let is_returned = *mandatory && (by_name || targets.is_empty());
        self.pass_to_queues(at, message, is_returned, &queues);
        is_partial
    }

    pub(in crate::engine) fn tx_rollback(&mut self, at: At) -> Result<(), Refusal> {
        let pending = self.take_pending(at)?;
        self.work.leave(Task::Rollback(Rollback { at, settled: pending.settled.into() }));
        self.answer(at, &tx::RollbackOk {});
        Ok(())
    }

    /// Returns some of the deliveries of a rollback to their channel. Returns the rest.
    pub(in crate::engine) fn roll_back_some(&mut self, mut rollback: Rollback) -> Option<Task> {
        let Rollback { at, settled } = &mut rollback;
        let Some(channel) = self.sessions.get_mut(at.session).and_then(|session| session.channel_mut(at.channel))
        else {
            let mut unacked = Unacked::default();
            settled.drain(..).flat_map(|(_, these)| these).for_each(|held| unacked.put_back(held));
            return Some(Task::Requeue(Requeue::of_closed(unacked, HeldBack::default())));
        };
        while let Some((_, these)) = settled.front_mut() {
            self.work.count(1);
            match these.pop_front() {
                Some(held) => channel.unacked.put_back(held),
                None => drop(settled.pop_front()),
            }
            if self.work.must_stop() {
                return Some(Task::Rollback(rollback));
            }
        }
        None
    }
}
