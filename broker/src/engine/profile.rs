//! Which release of RabbitMQ the broker follows.

use std::fmt::{self, Display};
use std::str::FromStr;

/// Which release of RabbitMQ the broker follows, where the releases differ.
///
/// The profiles are ordered by release. [docs/releases.md] lists all of their differences; those that a program most
/// often meets:
///
/// | | 3.13 | 4.0 | 4.3 |
/// | --- | --- | --- | --- |
/// | returns to a quorum queue, without `x-delivery-limit` | without limit | 20 | 20 |
/// | `basic.nack` and `basic.recover` with requeue | count towards that limit | count | do not count |
/// | the largest message | 128 MiB | 16 MiB | 16 MiB |
/// | a queue that is neither durable nor exclusive | declared | declared, with a warning in the log | 541 |
/// | a prefetch for a whole channel | for the channel | for the channel, with a warning | for each consumer |
/// | priorities in a quorum queue | none | two | 32 |
/// | a transaction's message whose queues were deleted before the commit | returned, if it is mandatory | the commit
/// closes the channel with 406, except for quorum queues | as 4.0 |
///
/// [docs/releases.md]: https://github.com/hopmq/hopmq/blob/main/docs/releases.md
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// RabbitMQ 3.13 and earlier.
    RabbitMq3_13,
    /// RabbitMQ 4.0. What it deprecates still works, and is told in the log.
    #[default]
    RabbitMq4_0,
    /// RabbitMQ 4.3.
    RabbitMq4_3,
}

/// The order of a quorum queue's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuorumOrder {
    Fifo,
    /// Priorities above 4 are high: two high messages, then one other.
    TwoClasses,
    /// 32 priorities, the highest first.
    Strict,
}

/// The header that answers any other protocol: AMQP 1.0 with SASL.
const AMQP_1_0: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

impl Profile {
    /// All profiles, the oldest first.
    pub const ALL: [Self; 3] = [Self::RabbitMq3_13, Self::RabbitMq4_0, Self::RabbitMq4_3];

    fn is_4(self) -> bool {
        self >= Self::RabbitMq4_0
    }

    fn is_4_3(self) -> bool {
        self >= Self::RabbitMq4_3
    }

    /// Sets what the protocol offers and demands.
    pub(crate) fn configure(self, protocol: &mut hopmq_proto::Config) {
        // What clients look for in the version of a RabbitMQ.
        protocol.properties.insert("rabbitmq", self.to_string());
        protocol.message_max = if self.is_4() { 16 << 20 } else { 128 << 20 };
        protocol.frame_min = if self.is_4_3() { 8192 } else { hopmq_proto::MIN_FRAME_MAX };
        protocol.foreign_header = if self.is_4() { AMQP_1_0 } else { hopmq_proto::PROTOCOL_HEADER };
        protocol.mechanisms =
            if self.offers_anonymous() { "PLAIN AMQPLAIN ANONYMOUS" } else { "PLAIN AMQPLAIN" }.into();
    }

    /// Whether a client may log in without credentials, as `guest`.
    pub(super) fn offers_anonymous(self) -> bool {
        self.is_4()
    }

    /// Whether a refusal names the missing permission.
    pub(super) fn names_permissions(self) -> bool {
        self.is_4()
    }

    /// Whether a requeue by `basic.nack` or `basic.recover` counts towards the delivery limit.
    pub(super) fn counts_nacks(self) -> bool {
        !self.is_4_3()
    }

    /// Whether a commit looks for the queues of its messages by name, and returns a mandatory message for which it
    /// finds none. Otherwise, the loss of a queue since the publish fails the commit.
    pub(super) fn finds_queues_at_commit(self) -> bool {
        self < Self::RabbitMq4_0
    }

    /// Returns the delivery limit of a quorum queue whose arguments set none.
    pub(super) fn delivery_limit(self) -> Option<u32> {
        self.is_4().then_some(20)
    }

    /// Whether -1 as `x-delivery-limit` means no limit. Before, it is passed by the first return.
    pub(super) fn has_unlimited(self) -> bool {
        self.is_4()
    }

    /// Whether a message that was returned to a quorum queue tells how often it was delivered: `x-acquired-count`.
    pub(super) fn shows_acquired(self) -> bool {
        self.is_4_3()
    }

    /// Whether the answer to `basic.get` on a quorum queue has `x-delivery-count` 0 before the first return.
    pub(super) fn shows_zero_returns(self) -> bool {
        !self.is_4()
    }

    /// Whether dead letters have the headers `x-last-death-*`.
    pub(super) fn names_last_death(self) -> bool {
        self.is_4()
    }

    /// Whether an `x-death` that a client wrote is continued.
    pub(super) fn continues_clients_deaths(self) -> bool {
        !self.is_4()
    }

    /// Whether a dead letter with a new routing key keeps the header `CC`. It is not routed by it.
    pub(super) fn keeps_cc(self) -> bool {
        self.is_4()
    }

    /// Whether a delivery mode other than 1 and 2 is refused.
    pub(super) fn checks_delivery_mode(self) -> bool {
        !self.is_4()
    }

    /// Whether the headers of messages are sorted by key.
    pub(super) fn sorts_headers(self) -> bool {
        self.is_4()
    }

    /// Whether a headers exchange compares integers with other numbers and with timestamps.
    pub(super) fn compares_all_numbers(self) -> bool {
        !self.is_4()
    }

    /// Whether an unknown type of exchange ends the connection, instead of the channel.
    pub(super) fn unknown_exchange_is_hard(self) -> bool {
        !self.is_4()
    }

    /// Whether there are exchanges of the type `x-local-random`.
    pub(super) fn has_local_random(self) -> bool {
        self.is_4()
    }

    /// Returns the order of a quorum queue's messages.
    pub(super) fn quorum_order(self) -> QuorumOrder {
        match self {
            Self::RabbitMq3_13 => QuorumOrder::Fifo,
            Self::RabbitMq4_0 => QuorumOrder::TwoClasses,
            Self::RabbitMq4_3 => QuorumOrder::Strict,
        }
    }

    /// Whether the single active consumer of a quorum queue gives way to one of a higher priority.
    pub(super) fn single_active_gives_way(self) -> bool {
        self.is_4()
    }

    /// Whether the use of a deprecated feature is told in the log.
    pub(super) fn warns_of_deprecated(self) -> bool {
        self.is_4()
    }

    /// Whether a queue that is neither durable nor exclusive is refused.
    pub(super) fn refuses_transient_queues(self) -> bool {
        self.is_4_3()
    }

    /// Whether a prefetch for a channel is one for each of its consumers.
    pub(super) fn shares_no_prefetch(self) -> bool {
        self.is_4_3()
    }

    /// Whether a delivery that is not settled in time cancels its consumer, on quorum queues only. Before, it closes
    /// the channel, on all queues.
    pub(super) fn timeout_cancels(self) -> bool {
        self.is_4_3()
    }

    /// Whether a mandatory reply to a reply consumer that is gone is dropped, instead of returned.
    pub(super) fn drops_late_replies(self) -> bool {
        self.is_4_3()
    }

    /// Whether each reply has a delivery tag of its own.
    pub(super) fn counts_replies(self) -> bool {
        self.is_4_3()
    }

    /// Whether the refusal of another type of queue names both types, even if one was not given.
    pub(super) fn names_queue_types(self) -> bool {
        self.is_4()
    }

    /// Whether quorum queues have delayed retries.
    pub(super) fn has_delayed_retries(self) -> bool {
        self.is_4_3()
    }
}

impl Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RabbitMq3_13 => "3.13",
            Self::RabbitMq4_0 => "4.0",
            Self::RabbitMq4_3 => "4.3",
        })
    }
}

/// Reads `3.13`, `4.0` or `4.3`.
impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let profile = Self::ALL.into_iter().find(|profile| profile.to_string() == text);
        profile.ok_or_else(|| format!("{text:?} is no profile; write 3.13, 4.0 or 4.3"))
    }
}
