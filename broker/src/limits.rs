//! Limits of what clients may hold.

use std::str::FromStr;

/// Limits of what clients may hold, so that one of them does not take the memory that all share.
///
/// ```
/// use hopmq_broker::{Broker, Limits};
///
/// let mut limits = Limits::default();
/// limits.queues = 2;
/// let broker = Broker::builder().limits(limits).start();
/// let channel = hopmq_blocking::Connection::open(&broker.uri())?.channel()?;
/// channel.queue("a").declare()?;
/// channel.queue("b").declare()?;
/// assert_eq!(channel.queue("c").declare().unwrap_err().code(), Some(406));
/// # Ok::<_, hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Queues of a virtual host, unless it has its own `max-queues`. One more is refused with 406.
    pub queues: u64,
    /// Exchanges of a virtual host. One more is refused with 406.
    pub exchanges: u64,
    /// Bindings of a virtual host. One more is refused with 406.
    pub bindings: u64,
    /// Consumers of a channel (RabbitMQ's `consumer_max_per_channel`). One more is refused with 530.
    pub consumers: u64,
    /// The percentage of the memory limit that queues, exchanges, bindings, consumers and channels of one virtual host
    /// may take. What would take more is refused: with 406, a channel with 530.
    pub declared_percent: u8,
    /// The percentage of the memory limit that one connection may take for what is not finished: parts of messages,
    /// and transactions. A part of a message above it closes the connection with 506, a publish in a transaction the
    /// channel with 406.
    pub unfinished_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queues: 1_000_000,
            exchanges: 100_000,
            bindings: 5_000_000,
            consumers: 100_000,
            declared_percent: 25,
            unfinished_percent: 10,
        }
    }
}

impl Limits {
    /// Changes the limit that `text` names, such as `queues=1000`.
    ///
    /// # Errors
    /// What is wrong with the text, and what to write.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        fn number<T: FromStr>(text: &str) -> Option<T> {
            text.trim().parse().ok()
        }
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let percent = number(value).filter(|percent| (1..=100).contains(percent));
        let set = match name.trim() {
            "queues" => number(value).map(|limit| self.queues = limit),
            "exchanges" => number(value).map(|limit| self.exchanges = limit),
            "bindings" => number(value).map(|limit| self.bindings = limit),
            "consumers" => number(value).map(|limit| self.consumers = limit),
            "declared-percent" => percent.map(|limit| self.declared_percent = limit),
            "unfinished-percent" => percent.map(|limit| self.unfinished_percent = limit),
            _ => {
                return Err(
                    "write queues, exchanges, bindings, consumers, declared-percent or unfinished-percent, an \
                            equals sign and a whole number"
                        .to_owned(),
                );
            }
        };
        set.ok_or_else(|| match name.ends_with("percent") {
            true => format!("write a whole number from 1 to 100, such as {}=25", name.trim()),
            false => format!("write a whole number, such as {}=1000", name.trim()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_by_its_name() {
        let mut limits = Limits::default();
        for text in ["queues=1", "exchanges = 2", "bindings=3", "consumers=4", "declared-percent=5"] {
            limits.set(text).unwrap();
        }
        limits.set("unfinished-percent=100").unwrap();
        let expected =
            Limits { queues: 1, exchanges: 2, bindings: 3, consumers: 4, declared_percent: 5, unfinished_percent: 100 };
        assert_eq!(limits, expected);
        for text in ["", "queues", "queues=", "queues=-1", "queue=1", "declared-percent=0", "declared-percent=101"] {
            assert!(limits.set(text).is_err(), "{text}");
        }
        assert_eq!(limits, expected);
    }
}
