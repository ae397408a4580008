//! Which release of RabbitMQ the broker follows.

use std::fmt::{self, Display};
use std::str::FromStr;

/// Which release of RabbitMQ the broker follows, where the releases differ.
///
/// | | 3.13 | 4.0 | 4.3 |
/// | --- | --- | --- | --- |
/// | how often a message may return to a quorum queue | without limit, unless `x-delivery-limit` says less | 20 times,
/// unless `x-delivery-limit` says otherwise; -1 is no limit | as 4.0 |
/// | `basic.nack` and `basic.recover` with requeue on a quorum queue | count towards that limit and `x-delivery-count`
/// | as 3.13 | do not count; a reject does, and so does the end of the channel |
/// | the largest message | 128 MiB | 16 MiB | as 4.0 |
/// | a transaction's message whose queues were deleted before the commit | returned, if it is mandatory | the commit
/// closes the channel with 406, except for quorum queues | as 4.0 |
///
/// The profiles are ordered by release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// RabbitMQ 3.13 and earlier.
    #[default]
    RabbitMq3_13,
    /// RabbitMQ 4.0.
    RabbitMq4_0,
    /// RabbitMQ 4.3.
    RabbitMq4_3,
}

impl Profile {
    /// All profiles, the oldest first.
    pub const ALL: [Self; 3] = [Self::RabbitMq3_13, Self::RabbitMq4_0, Self::RabbitMq4_3];

    /// Returns the largest message, in bytes.
    pub(crate) fn message_max(self) -> u64 {
        if self >= Self::RabbitMq4_0 { 16 << 20 } else { 128 << 20 }
    }

    /// Whether a requeue by `basic.nack` or `basic.recover` counts towards the delivery limit.
    pub(super) fn counts_nacks(self) -> bool {
        self < Self::RabbitMq4_3
    }

    /// Whether a commit looks for the queues of its messages by name, and returns a mandatory message without any.
    /// Otherwise, the loss of a queue since the publish fails the commit.
    pub(super) fn finds_queues_at_commit(self) -> bool {
        self < Self::RabbitMq4_0
    }

    /// Returns the delivery limit of a quorum queue whose arguments set none.
    pub(super) fn delivery_limit(self) -> Option<u32> {
        (self >= Self::RabbitMq4_0).then_some(20)
    }

    /// Whether -1 as `x-delivery-limit` means no limit.
    pub(super) fn has_unlimited(self) -> bool {
        self >= Self::RabbitMq4_0
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
