//! Which release of RabbitMQ the broker follows.

/// Which release of RabbitMQ the broker follows, where the releases differ.
///
/// | | 3.13 | 4.x |
/// | --- | --- | --- |
/// | how often a message may return to a quorum queue | without limit, unless `x-delivery-limit` says less | 20 times,
/// unless `x-delivery-limit` says otherwise; -1 is no limit |
/// | `basic.nack` and `basic.recover` with requeue on a quorum queue | count towards that limit and `x-delivery-count`
/// | do not count; a reject does, and so does the end of the channel |
/// | the largest message | 128 MiB | 16 MiB |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// RabbitMQ 3.13 and earlier.
    #[default]
    RabbitMq3,
    /// RabbitMQ 4.3.
    RabbitMq4,
}

impl Profile {
    /// Returns the largest message, in bytes.
    pub(crate) fn message_max(self) -> u64 {
        match self {
            Self::RabbitMq3 => 128 << 20,
            Self::RabbitMq4 => 16 << 20,
        }
    }

    /// Whether a requeue by `basic.nack` or `basic.recover` counts towards the delivery limit.
    pub(super) fn counts_nacks(self) -> bool {
        self == Self::RabbitMq3
    }

    /// Returns the delivery limit of a quorum queue whose arguments set none.
    pub(super) fn delivery_limit(self) -> Option<u32> {
        match self {
            Self::RabbitMq3 => None,
            Self::RabbitMq4 => Some(20),
        }
    }

    /// Whether -1 as `x-delivery-limit` means no limit.
    pub(super) fn has_unlimited(self) -> bool {
        self == Self::RabbitMq4
    }
}
