//! A queue: its declaration and its content.
//!
//! Owns the ready messages and the turns of the consumers. Callers decide which messages leave, and where to. It must
//! never know connections.

pub(super) mod arguments;
pub(super) mod at_least_once;
pub(super) mod dead_letter;
mod delayed_retry;
mod expiry;
pub(super) mod message;
mod overflow;
mod pieces;
pub(super) mod ready;
pub(super) mod settings;
pub(super) mod turns;
pub(super) mod waiting;

use std::collections::BTreeSet;

use hopmq_proto::{FieldTable, Time};

use crate::engine::keys::{ExchangeKey, SessionKey, VhostKey};
use crate::engine::meter::{Charge, Meter, Purpose, TABLES};
use crate::engine::name::Name;
use crate::engine::profile::{Profile, QuorumOrder};
use crate::engine::queue::arguments::QueueType;
use crate::engine::queue::at_least_once::DeadMessages;
use crate::engine::queue::ready::{Order, Ready};
use crate::engine::queue::settings::Settings;
use crate::engine::queue::turns::Consumers;
use crate::engine::queue::waiting::Waiting;
use crate::store::QueueId;

/// The declaration of a queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueSpec {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection that an exclusive queue belongs to.
    pub(crate) exclusive: Option<SessionKey>,
    pub(crate) arguments: FieldTable,
}

/// A queue. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Name,
    pub(crate) vhost: VhostKey,
    pub(crate) spec: QueueSpec,
    pub(crate) settings: Settings,
    pub(crate) ready: Ready,
    /// Messages that are not ready until a time.
    pub(crate) waiting: Waiting,
    /// The exchange whose delayed messages it holds. No client sees such a queue.
    pub(crate) delays: Option<ExchangeKey>,
    /// Dead messages that stay until their dead letters are taken.
    pub(crate) dead: DeadMessages,
    /// Whether it is deleted, and stays only until its bindings are removed.
    pub(crate) is_deleted: bool,
    /// How many of its messages are dead, and settled in the store once their dead letters are routed.
    pub(crate) dying: u32,
    /// How many requeues are under way, during which it delivers to no consumer.
    pub(crate) requeues: u32,
    /// Messages that were delivered and are not settled.
    pub(crate) unacked: usize,
    pub(crate) consumers: Consumers,
    /// The exchanges that are bound to it.
    pub(crate) sources: BTreeSet<ExchangeKey>,
    /// Its id in the store, if it is stored.
    pub(crate) stored: Option<QueueId>,
    /// The position of the next message.
    pub(crate) next_position: u64,
    /// The position of a message that was found unreadable when it was the next one.
    pub(crate) unreadable: Option<u64>,
    /// Whether it is in the list of queues with messages that can leave memory.
    pub(crate) pageable: bool,
    /// When it was last used, for `x-expires`.
    pub(crate) used: Time,
    /// The deadline that its timer is set to.
    pub(crate) timer: Option<Time>,
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

impl Queue {
    pub(crate) fn new(
        name: Name,
        vhost: VhostKey,
        spec: QueueSpec,
        settings: Settings,
        profile: Profile,
        now: Time,
        meter: Meter,
    ) -> Self {
        let ready = Ready::new(match profile.quorum_order() {
            QuorumOrder::TwoClasses if settings.quorum => Order::TwoClasses,
            QuorumOrder::Strict if settings.quorum => Order::Strict,
            _ => Order::Highest(settings.max_priority.unwrap_or(0)),
        });
        let stored = if spec.durable { 2 } else { 1 };
        let names = stored * (TABLES + name.len() + spec.arguments.as_bytes().len());
        let charge = Charge::new(meter, Purpose::Queues, size_of::<Self>() + ready.lines_size() + names);
        Self {
            name,
            vhost,
            spec,
            settings,
            ready,
            waiting: Waiting::default(),
            dead: DeadMessages::default(),
            delays: None,
            is_deleted: false,
            dying: 0,
            requeues: 0,
            unacked: 0,
            consumers: Consumers::default(),
            sources: BTreeSet::new(),
            stored: None,
            next_position: 1,
            unreadable: None,
            pageable: false,
            used: now,
            timer: None,
            charge,
        }
    }

    /// Returns its type.
    pub(crate) fn kind(&self) -> QueueType {
        if self.settings.quorum { QueueType::Quorum } else { QueueType::Classic }
    }

    /// Whether it holds a message that was found unreadable.
    pub(crate) fn is_failing(&self) -> bool {
        self.unreadable.is_some_and(|position| self.ready.iter().any(|entry| entry.position == position))
    }

    /// Returns the next deadline: that of a message, or its own.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let expires = self.settings.expires.filter(|_| self.consumers.is_empty());
        let gone = expires.map(|expires| self.used + expires);
        self.ready.next_expiry().into_iter().chain(gone).chain(self.waiting.first()).chain(self.dead.retry()).min()
    }
}
