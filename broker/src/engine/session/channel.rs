//! A channel, and the dispatch of its methods.
//!
//! Owns the state of a channel: its consumers, its unsettled deliveries, and its unconfirmed publishes.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use hopmq_proto::Time;
use hopmq_proto::method::{Method, access, basic, channel, confirm};

use crate::engine::delivery::acks::Verdict;
use crate::engine::delivery::requeue::{HeldBack, Requeue};
use crate::engine::delivery::unacked::Unacked;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, QueueKey, SessionKey};
use crate::engine::meter::{Charge, Purpose, TABLES};
use crate::engine::name::Name;
use crate::engine::refusal::Refusal;
use crate::engine::session::publish::{Confirms, KnownRoute};
use crate::engine::session::reply_to::{REPLY_TO, Replies};
use crate::engine::session::tagged::Tagged;
use crate::engine::session::tx::{Pending, Settled};
use crate::engine::topology::delete::Kind;
use crate::engine::work::Task;
use crate::engine::{At, Engine};

/// A channel. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) consumers: Tagged,
    /// Consumers of quorum queues that were cancelled with unacked deliveries, by tag and queue. These count for the
    /// next consumer of the same tag, as in RabbitMQ.
    cancelled: HashMap<(Name, QueueKey), ConsumerKey>,
    pub(crate) unacked: Unacked,
    /// When its delivery timeouts must be checked.
    pub(crate) next_check: Option<Time>,
    /// The unacked deliveries that consumers got, without those of `basic.get`.
    pub(crate) consuming: u32,
    /// The tag of the last delivery.
    pub(crate) delivered: u64,
    /// What `basic.qos` set for later consumers.
    pub(crate) prefetch: u16,
    /// What `basic.qos` set for all consumers together.
    pub(crate) global_prefetch: u16,
    /// The queue declared last, which an empty name stands for.
    pub(crate) last_queue: Option<Name>,
    pub(crate) confirms: Option<Confirms>,
    /// What is not committed, if the channel is transactional.
    pub(crate) pending: Option<Pending>,
    pub(crate) replies: Option<Replies>,
    /// The route of the last publish.
    pub(crate) known_route: KnownRoute,
    /// Its memory.
    pub(crate) charge: Option<Charge>,
}

/// What is left of a closed channel.
#[derive(Debug)]
pub(in crate::engine) struct Closing {
    consumers: VecDeque<ConsumerKey>,
    settled: VecDeque<Settled>,
    unacked: Unacked,
    /// The queues of its consumers.
    held_back: HeldBack,
}

impl Channel {
    /// What a channel without consumers takes, in bytes.
    pub(crate) const SIZE: usize = TABLES + size_of::<Self>();

    /// Notes a cancelled consumer with unacked deliveries. Those without are forgotten before they are the most.
    pub(in crate::engine) fn note_cancelled(&mut self, tag: Name, queue: QueueKey, consumer: ConsumerKey) {
        if self.cancelled.len() > 2 * self.unacked.len() {
            let held: HashSet<_> = self.unacked.iter().filter_map(|held| held.consumer).collect();
            self.cancelled.retain(|_, consumer| held.contains(consumer));
        }
        self.cancelled.insert((tag, queue), consumer);
    }

    /// Passes the unacked deliveries of cancelled consumers of this tag to a new one. Returns how many there are.
    pub(in crate::engine) fn inherit(&mut self, tag: Name, queue: QueueKey, consumer: ConsumerKey) -> u32 {
        let Some(old) = self.cancelled.remove(&(tag, queue)) else { return 0 };
        let mut count = 0;
        for held in self.unacked.iter_mut().filter(|held| held.consumer == Some(old)) {
            held.consumer = Some(consumer);
            count += 1;
        }
        count
    }

    /// Moves a consumer that found no room behind the others that share the channel's limit.
    pub(in crate::engine) fn pass_turn(&mut self, tag: &str) {
        if self.global_prefetch > 0 {
            self.consumers.pass_turn(tag);
        }
    }
}

impl Engine {
    pub(in crate::engine) fn open_channel(&mut self, id: SessionKey, number: u16) {
        let Some(vhost) = self.sessions.get(id).and_then(|session| session.vhost) else { return };
        let meter = self.meter_of(vhost);
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let index = usize::from(number);
        if index >= session.channels.len() {
            session.channels.resize_with(index + 1, || None);
        }
        let charge = Some(Charge::new(meter, Purpose::Channels, Channel::SIZE));
        session.channels[index] = Some(Box::new(Channel { charge, ..Channel::default() }));
    }

    /// Closes a channel: cancels its consumers, and requeues its unacked deliveries.
    pub(in crate::engine) fn close_channel(&mut self, id: SessionKey, number: u16) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let settled = session.take_pending(number).map(|pending| pending.settled).unwrap_or_default();
        let Some(channel) = session.channels.get_mut(usize::from(number)).and_then(Option::take) else { return };
        let mut channel = *channel;
        self.remove_timeout_check(id, number, channel.next_check);
        if let Some(replies) = channel.replies.take() {
            self.reply_names.remove(&replies.name);
        }
        let consumers = std::mem::take(&mut channel.consumers).iter().collect();
        let unacked = channel.unacked;
        self.work.leave(Task::Close(Closing {
            consumers,
            settled: settled.into(),
            unacked,
            held_back: HeldBack::default(),
        }));
    }

    /// Cancels consumers of a closed channel, then puts back what its transaction has settled, then requeues. Returns
    /// the rest.
    pub(in crate::engine) fn close_some(&mut self, mut closing: Closing) -> Option<Task> {
        while let Some(consumer) = closing.consumers.pop_front() {
            self.work.count(1);
            // The deletion of its queue may have removed it.
            if let Some(queue) = self.consumers.get(consumer).map(|consumer| consumer.queue) {
                // The next single active consumer must not begin before the messages of this one are back.
                self.hold_back(&mut closing.held_back, queue);
                self.remove_consumer(consumer);
            }
            if self.work.must_stop() {
                return Some(Task::Close(closing));
            }
        }
        while let Some((_, settled)) = closing.settled.front_mut() {
            self.work.count(1);
            match settled.pop_front() {
                Some(held) => closing.unacked.put_back(held),
                None => drop(closing.settled.pop_front()),
            }
            if self.work.must_stop() {
                return Some(Task::Close(closing));
            }
        }
        Some(Task::Requeue(Requeue::of_closed(closing.unacked, closing.held_back)))
    }

    pub(in crate::engine) fn channel_mut(&mut self, at: At) -> Option<&mut Channel> {
        self.sessions.get_mut(at.session)?.channel_mut(at.channel)
    }

    pub(in crate::engine) fn method(&mut self, at: At, payload: &Bytes) -> Result<(), Refusal> {
        // The protocol has validated it already.
        let Some(method) = Method::decode(payload).ok().invariant("method") else { return Ok(()) };
        let waits_for = match &method {
            Method::QueueDeclare(declare) if !declare.passive => Some((Kind::Queue, declare.queue)),
            Method::ExchangeDeclare(declare) if !declare.passive => Some((Kind::Exchange, declare.exchange)),
            _ => None,
        };
        if let Some((kind, name)) = waits_for
            && self.must_wait_for(at.vhost, kind, name)
        {
            self.work.leave(Task::Declare(at, payload.clone()));
            return Ok(());
        }
        match method {
            Method::BasicAck(ack) => self.ack(at, ack.delivery_tag, ack.multiple),
            Method::BasicNack(nack) => {
                let counts = self.config.profile.counts_nacks();
                self.nack(at, nack.delivery_tag, nack.multiple, Verdict::of(nack.requeue, counts))
            }
            Method::BasicReject(reject) => self.nack(at, reject.delivery_tag, false, Verdict::of(reject.requeue, true)),
            Method::BasicGet(get) => self.get(at, &get),
            Method::BasicConsume(consume) if consume.queue == REPLY_TO => self.consume_replies(at, &consume),
            Method::BasicConsume(consume) => self.consume(at, &consume),
            Method::BasicCancel(cancel) => self.cancel(at, &cancel),
            Method::BasicQos(qos) => self.qos(at, qos),
            Method::BasicRecover(recover) => self.requeue_all(at, recover.requeue, true),
            Method::BasicRecoverAsync(recover) => self.requeue_all(at, recover.requeue, false),
            Method::QueueDeclare(declare) => self.declare_queue(at, &declare),
            Method::QueueDelete(delete) => self.queue_delete(at, &delete),
            Method::QueuePurge(purge) => self.purge(at, &purge),
            Method::QueueBind(bind) => self.queue_bind(at, &bind),
            Method::QueueUnbind(unbind) => self.queue_unbind(at, &unbind),
            Method::ExchangeDeclare(declare) => self.declare_exchange(at, &declare),
            Method::ExchangeDelete(delete) => self.exchange_delete(at, &delete),
            Method::ExchangeBind(bind) => self.exchange_bind(at, &bind),
            Method::ExchangeUnbind(unbind) => self.exchange_unbind(at, &unbind),
            Method::ConfirmSelect(select) => self.confirm_select(at, select),
            Method::TxSelect(_) => self.tx_select(at),
            Method::TxCommit(_) => self.tx_commit(at),
            Method::TxRollback(_) => self.tx_rollback(at),
            Method::ChannelFlow(flow) if flow.active => {
                self.answer(at, &channel::FlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow(_) => Err(Refusal::not_implemented("active=false")),
            Method::AccessRequest(_) => {
                self.answer(at, &access::RequestOk {});
                Ok(())
            }
            other => Err(Refusal::not_implemented(format_args!("{other:?}"))),
        }
    }

    fn confirm_select(&mut self, at: At, select: confirm::Select) -> Result<(), Refusal> {
        if let Some(channel) = self.channel_mut(at) {
            if channel.pending.is_some() {
                return Err(Refusal::precondition("cannot switch from tx to confirm mode"));
            }
            channel.confirms.get_or_insert_default();
        }
        if !select.nowait {
            self.answer(at, &confirm::SelectOk {});
        }
        Ok(())
    }

    fn qos(&mut self, at: At, qos: basic::Qos) -> Result<(), Refusal> {
        if qos.global {
            self.warn_of_global_qos(at.session);
        }
        let shared = qos.global && !self.config.profile.shares_no_prefetch();
        let Some(channel) = self.channel_mut(at).invariant("channel") else { return Ok(()) };
        if !shared {
            channel.prefetch = qos.prefetch_count;
        }
        // In RabbitMQ, a limit for each consumer removes the one for all.
        let all = if shared { qos.prefetch_count } else { 0 };
        if std::mem::replace(&mut channel.global_prefetch, all) != all {
            self.resume_all(at);
        }
        self.answer(at, &basic::QosOk {});
        Ok(())
    }
}
