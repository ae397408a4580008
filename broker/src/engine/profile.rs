//! Whose rules hold where the releases of RabbitMQ differ.

/// Whose rules hold where the releases of RabbitMQ differ.
///
/// | | 3.13 | 4.x |
/// | --- | --- | --- |
/// | how often a message may come back to a quorum queue | any number, unless `x-delivery-limit` says less | 20, unless `x-delivery-limit` says otherwise; -1 is any number |
/// | `basic.nack` and `basic.recover` with requeue on a quorum queue | count for that, and in `x-delivery-count` | do not; what is rejected, or comes back because its channel ended, does |
/// | the largest message | 128 MiB | 16 MiB |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Those of RabbitMQ 3.13 and before.
    #[default]
    RabbitMq3,
    /// Those of RabbitMQ 4.3.
    RabbitMq4,
}

impl Profile {
    /// The largest message, in bytes.
    pub(crate) fn message_max(self) -> u64 {
        match self {
            Self::RabbitMq3 => 128 << 20,
            Self::RabbitMq4 => 16 << 20,
        }
    }

    /// Whether what is returned without being rejected counts towards the delivery limit.
    pub(super) fn counts_nacks(self) -> bool {
        self == Self::RabbitMq3
    }

    /// Returns how often a message may come back to a quorum queue whose arguments do not say.
    pub(super) fn delivery_limit(self) -> Option<u32> {
        match self {
            Self::RabbitMq3 => None,
            Self::RabbitMq4 => Some(20),
        }
    }

    /// Whether -1 as `x-delivery-limit` stands for any number.
    pub(super) fn has_unlimited(self) -> bool {
        self == Self::RabbitMq4
    }
}
