//! The kinds of hashes that users' passwords have.
//!
//! Owns how many users have each kind: an algorithm of the PHC string format with its parameters. The hashes of users
//! come in as they are set and removed; out goes the list of kinds. A login computes one hash of each, so that its time
//! does not say which kind a user has. It must never know what a kind costs, nor any password.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The kinds: the PHC strings of the hashes, without salt and hash. They are few.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    users: BTreeMap<Box<str>, usize>,
    list: Arc<[Box<str>]>,
}

impl Kinds {
    /// Returns the list of kinds.
    pub(crate) fn list(&self) -> Arc<[Box<str>]> {
        Arc::clone(&self.list)
    }

    /// Returns how many kinds there would be with this hash.
    pub(crate) fn count_with(&self, hash: &str) -> usize {
        self.users.len() + usize::from(kind_of(hash).is_some_and(|kind| !self.users.contains_key(kind)))
    }

    /// Counts a user with this hash.
    pub(super) fn add(&mut self, hash: &str) {
        let Some(kind) = kind_of(hash) else { return };
        match self.users.get_mut(kind) {
            Some(users) => *users += 1,
            None => {
                self.users.insert(kind.into(), 1);
                self.list = self.users.keys().cloned().collect();
            }
        }
    }

    /// No longer counts a user with this hash.
    pub(super) fn remove(&mut self, hash: &str) {
        let Some(users) = kind_of(hash).and_then(|kind| self.users.get_mut(kind)) else { return };
        *users -= 1;
        if *users == 0 {
            self.users.retain(|_, users| *users > 0);
            self.list = self.users.keys().cloned().collect();
        }
    }
}

/// Returns the kind of a hash, if it is a PHC string.
fn kind_of(hash: &str) -> Option<&str> {
    let (rest, _hash) = hash.strip_prefix('$').is_some().then_some(hash)?.rsplit_once('$')?;
    rest.rsplit_once('$').map(|(kind, _salt)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_listed_while_a_user_has_it() {
        let mut kinds = Kinds::default();
        let hashes = ["$argon2id$v=19$m=8192,t=1,p=1$c2FsdA$aGFzaA", "$argon2i$m=16,t=2,p=1$c2FsdA$aGFzaA"];
        kinds.add(hashes[0]);
        kinds.add(hashes[0]);
        kinds.add("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert_eq!((kinds.count_with(hashes[0]), kinds.count_with(hashes[1])), (1, 2));
        kinds.add(hashes[1]);
        assert_eq!(*kinds.list(), ["$argon2i$m=16,t=2,p=1".into(), "$argon2id$v=19$m=8192,t=1,p=1".into()]);
        kinds.remove(hashes[0]);
        kinds.remove(hashes[1]);
        assert_eq!(*kinds.list(), ["$argon2id$v=19$m=8192,t=1,p=1".into()]);
        kinds.remove(hashes[0]);
        assert!(kinds.list().is_empty());
    }
}
