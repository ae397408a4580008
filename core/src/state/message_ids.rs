//! Names for messages: so that a consumer knows one again that comes twice.
//!
//! Owns a random name of the connection and a count. Out goes a text that no other message has, of this connection or
//! of any other, and that says nothing of who made it.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// The names. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct MessageIds {
    /// The name of the connection, then that of the latest message.
    text: String,
    count: u64,
}

/// Digits of a connection's name: 128 bits.
const NAME: usize = 32;

impl MessageIds {
    /// With these random bits for the name, or some of the system's.
    pub(crate) fn new(random: Option<u128>) -> Self {
        let random = random.unwrap_or_else(|| {
            // Its keys are 128 random bits of the system, and it is made to tell nothing of them.
            let random = RandomState::new();
            u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1))
        });
        Self { text: format!("{random:0NAME$x}"), count: 0 }
    }

    /// A name for the next message.
    pub(crate) fn next(&mut self) -> &str {
        self.count += 1;
        self.text.truncate(NAME);
        // Writing to a text never fails.
        let _ = write!(self.text, "-{}", self.count);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let mut names = BTreeSet::new();
        for _ in 0..100 {
            let mut ids = MessageIds::new(None);
            names.extend((0..100).map(|_| ids.next().to_owned()));
        }
        assert_eq!(names.len(), 100 * 100);
        assert!(names.iter().all(|name| name.len() < 60 && name.is_ascii()), "{names:?}");
    }
}
