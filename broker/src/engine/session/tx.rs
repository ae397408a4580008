//! Transactions: publishes and acks take effect at the commit (specification, section 1.9).
//!
//! Owns what is uncommitted. RabbitMQ routes a message when it is published, and passes it to the queues at the commit.

use hopmq_proto::method::tx;

use crate::engine::delivery::acks::Verdict;
use crate::engine::delivery::unacked::Held;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::queue::message::Message;
use crate::engine::refusal::Refusal;
use crate::engine::{At, Engine};

/// What a transactional channel has not committed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) settled: Vec<(Verdict, Vec<Held>)>,
}

/// A published message and its queues.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) message: Message,
    pub(crate) mandatory: bool,
    pub(crate) queues: Vec<QueueKey>,
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
        let pending = self.channel_mut(at).and_then(|channel| channel.pending.as_mut());
        pending.map(std::mem::take).ok_or_else(|| Refusal::precondition("channel is not transactional"))
    }

    pub(in crate::engine) fn tx_commit(&mut self, at: At) -> Result<(), Refusal> {
        let pending = self.take_pending(at)?;
        for publish in pending.publishes {
            self.pass_to_queues(at, &publish.message, publish.mandatory, &publish.queues);
        }
        for (verdict, held) in pending.settled {
            self.settle(at, verdict, held);
        }
        self.answer(at, &tx::CommitOk {});
        self.hold(at.session);
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
