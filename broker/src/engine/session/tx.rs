//! Transactions: publishes and acks take effect at the commit (specification, section 1.9).
//!
//! Owns what is uncommitted. RabbitMQ routes a message when it is published, and passes it to the queues at the commit.

use hopmq_proto::method::tx;

use crate::engine::delivery::acks::Verdict;
use crate::engine::delivery::unacked::Held;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::meter::{Charge, Meter, Purpose};
use crate::engine::name::Name;
use crate::engine::queue::Queue;
use crate::engine::queue::message::{Message, PLACE};
use crate::engine::refusal::Refusal;
use crate::engine::session::Session;
use crate::engine::{At, Engine};

/// What a transactional channel has not committed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) publishes: Vec<Publish>,
    /// What they take, in bytes.
    size: u64,
    pub(crate) settled: Vec<(Verdict, Vec<Held>)>,
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
        let pending = self.take_pending(at)?;
        let by_name = self.config.profile.finds_queues_at_commit();
        let mut is_partial = false;
        for Publish { message, mandatory, queues: targets, .. } in pending.publishes {
            let mut queues = Vec::with_capacity(targets.len());
            for target in &targets {
                let found = match by_name {
                    true => self.queue_named(at.vhost, &target.name),
                    false => self.queues.contains_key(target.key).then_some(target.key),
                };
                // RabbitMQ 4 does not notice the loss of a quorum queue.
                is_partial |= !by_name && found.is_none() && !target.is_quorum;
                queues.extend(found);
            }
            let is_returned = mandatory && (by_name || targets.is_empty());
            self.pass_to_queues(at, &message, is_returned, &queues);
        }
        for (verdict, held) in pending.settled {
            self.settle(at, verdict, held);
        }
        self.hold(at.session);
        if is_partial {
            return Err(Refusal::precondition("partial tx completion"));
        }
        self.answer(at, &tx::CommitOk {});
        Ok(())
    }

    pub(in crate::engine) fn tx_rollback(&mut self, at: At) -> Result<(), Refusal> {
        let pending = self.take_pending(at)?;
        if let Some(channel) = self.channel_mut(at) {
            channel.unacked.put_back(pending.settled.into_iter().flat_map(|(_, held)| held).collect());
        }
        self.answer(at, &tx::RollbackOk {});
        Ok(())
    }
}
