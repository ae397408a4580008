//! Times as RabbitMQ takes them: in whole milliseconds or seconds, up to a bound.
//!
//! A fraction is rounded up, because zero means something else: a message that expires at once, or no heartbeats.

use std::time::Duration;

/// The longest time to live that RabbitMQ takes, for a message or a queue: ten years of 365 days, 315,360,000,000 ms.
pub const LONGEST_TTL: Duration = Duration::from_secs(315_360_000);

/// The longest interval of heartbeats that AMQP can express: 65,535 seconds.
pub const LONGEST_HEARTBEAT: Duration = Duration::from_secs(u16::MAX as u64);

/// Returns a time to live in milliseconds, rounded up, as RabbitMQ takes it (its page
/// [TTL](https://www.rabbitmq.com/docs/ttl)); `None` if it is longer than [`LONGEST_TTL`].
///
/// ```
/// use std::time::Duration;
///
/// use hopmq_proto::{LONGEST_TTL, milliseconds};
///
/// assert_eq!(milliseconds(Duration::from_nanos(1)), Some(1));
/// assert_eq!(milliseconds(LONGEST_TTL), Some(315_360_000_000));
/// assert_eq!(milliseconds(LONGEST_TTL + Duration::from_nanos(1)), None);
/// ```
pub fn milliseconds(time: Duration) -> Option<u64> {
    let fraction = u64::from(time.subsec_nanos().div_ceil(1_000_000));
    if time > LONGEST_TTL { None } else { Some(time.as_secs() * 1000 + fraction) }
}

/// Returns an interval in seconds, rounded up; at most [`LONGEST_HEARTBEAT`].
pub(crate) fn seconds(interval: Duration) -> u16 {
    let whole = interval.as_secs().saturating_add(u64::from(interval.subsec_nanos() > 0));
    u16::try_from(whole).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_up_and_never_to_zero() {
        for (nanos, millis, secs) in
            [(0, 0, 0), (1, 1, 1), (1_000_000, 1, 1), (1_000_001, 2, 1), (1_000_000_001, 1001, 2)]
        {
            let time = Duration::from_nanos(nanos);
            assert_eq!((milliseconds(time), seconds(time)), (Some(millis), secs), "{time:?}");
        }
        assert_eq!((milliseconds(Duration::MAX), seconds(Duration::MAX)), (None, u16::MAX));
        assert_eq!(seconds(LONGEST_HEARTBEAT), 65_535);
    }
}
