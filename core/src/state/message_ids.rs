//! Message ids, by which a consumer recognizes a message that it gets twice.
//!
//! An id is a random name of the connection and a count. No message of this connection or another one has the same id,
//! and the id reveals nothing about the program.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// The ids. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct MessageIds {
    /// The latest id: the name of the connection, and the count.
    text: String,
    count: u64,
}

/// Hexadecimal digits of a connection's name: 128 bits.
const NAME: usize = 32;

impl MessageIds {
    /// Returns the ids of a connection with these random bits for its name; `None` takes bits from the system.
    pub(crate) fn new(random: Option<u128>) -> Self {
        let random = random.unwrap_or_else(|| {
            // The hasher's keys are 128 random bits from the system, which its hashes do not reveal.
            let random = RandomState::new();
            u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1))
        });
        Self { text: format!("{random:0NAME$x}"), count: 0 }
    }

    /// Returns the id of the next message.
    pub(crate) fn next(&mut self) -> &str {
        self.count += 1;
        self.text.truncate(NAME);
        // Writing to a string never fails.
        let _ = write!(self.text, "-{}", self.count);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_ids_differ() {
        let mut names = BTreeSet::new();
        for _ in 0..100 {
            let mut ids = MessageIds::new(None);
            names.extend((0..100).map(|_| ids.next().to_owned()));
        }
        assert_eq!(names.len(), 100 * 100);
        assert!(names.iter().all(|name| name.len() < 60 && name.is_ascii()), "{names:?}");
    }
}
