//! How soon the next password of a user, or from an address, may be verified after wrong ones.
//!
//! Owns the failures by user and address, by address, and by user, and which users have logged in from where. Failures
//! and successes come in; out goes the time from which an attempt may be verified. It must never know passwords, nor
//! which users exist.
//!
//! - A user's failures from an address: after [`PAIR`], each next one has to wait.
//! - All failures from an address: after [`ADDRESS`], likewise, but for users who have logged in from there lately.
//! - A user's failures from anywhere: after [`USER`], an attempt waits for [`DELAY`] only, and not at all from where
//!   the user has logged in lately: otherwise an attacker could lock the user out.
//!
//! From an address that many clients share, an attempt waits for [`DELAY`] at most. What has no address is this
//! program's own, and never waits.
//!
//! The table is bounded. A failure that is forgotten early is that with the least to wait, so that it takes as many
//! failures to have one forgotten as the table holds.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hopmq_proto::Time;

use super::recent::Recent;

/// Failures that are free, and the time after which one more is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) free: u32,
    pub(super) interval: Duration,
}

/// Of one user from one address.
pub(super) const PAIR: Rate = Rate { free: 10, interval: Duration::from_secs(2) };
/// From one address.
pub(super) const ADDRESS: Rate = Rate { free: 100, interval: Duration::from_millis(200) };
/// Of one user, from all addresses.
pub(super) const USER: Rate = Rate { free: 100, interval: Duration::from_secs(1) };
/// How long an attempt waits that must not be kept out.
pub(super) const DELAY: Duration = Duration::from_secs(2);
/// How long a successful login from an address counts.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);
/// The most failing keys, and the most known users and addresses. About 100 bytes each.
const MOST: usize = 1 << 15;

/// Where clients come from: an IPv4 address, or the /64 of an IPv6 address, which is one client's as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
            address => address,
        })
    }

    pub(super) fn octets(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }
}

/// What an attempt is counted by. The names of users may be long, and are only kept as keyed hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pair: u64,
    address: u64,
    user: u64,
    is_shared: bool,
    is_own: bool,
}

#[cfg(test)]
impl Keys {
    pub(super) fn pair(self) -> u64 {
        self.pair
    }
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Throttle {
    hasher: RandomState,
    shared: HashSet<Source>,
    /// By key: until when its failures count.
    failing: Recent<u64>,
    /// The users who have logged in from an address.
    known: Recent<u64>,
}

impl Throttle {
    pub(super) fn new(shared: HashSet<Source>) -> Self {
        Self { hasher: RandomState::new(), shared, failing: Recent::new(MOST), known: Recent::new(MOST) }
    }

    pub(super) fn keys(&self, source: Option<Source>, user: &str) -> Keys {
        Keys {
            pair: self.hasher.hash_one((source, user)),
            address: self.hasher.hash_one(source),
            user: self.hasher.hash_one(user),
            is_shared: source.is_some_and(|source| self.is_shared(source)),
            is_own: source.is_none(),
        }
    }

    /// Whether many clients come from there.
    pub(super) fn is_shared(&self, source: Source) -> bool {
        self.shared.contains(&source)
    }

    /// Returns from when an attempt that arrived at that time may be verified, as far as is known now.
    pub(super) fn free_at(&self, now: Time, arrived: Time, keys: Keys) -> Time {
        let Keys { pair, address, user, is_shared, is_own } = keys;
        let delayed = arrived + DELAY;
        let pair_free = self.rate_free_at(now, pair, PAIR);
        match is_shared {
            _ if is_own => now,
            true => {
                if pair_free > now {
                    delayed
                } else {
                    now
                }
            }
            false if self.known.until(now, pair).is_some() => pair_free,
            false => {
                let user_free = if self.rate_free_at(now, user, USER) > now { delayed } else { now };
                pair_free.max(self.rate_free_at(now, address, ADDRESS)).max(user_free)
            }
        }
    }

    fn rate_free_at(&self, now: Time, key: u64, rate: Rate) -> Time {
        let free = rate.interval * (rate.free - 1);
        self.failing.until(now, key).map_or(now, |until| now + (until - now).saturating_sub(free))
    }

    /// Counts an attempt as a failure, until it turns out to be none.
    pub(super) fn failed(&mut self, now: Time, keys: Keys) {
        for (key, rate) in Self::counted(keys) {
            let until = self.failing.until(now, key).unwrap_or(now);
            self.failing.set(now, key, until + rate.interval);
        }
    }

    /// Takes back that an attempt was counted as a failure, and notes that the user logged in.
    pub(super) fn succeeded(&mut self, now: Time, keys: Keys) {
        for (key, rate) in Self::counted(keys) {
            if let Some(until) = self.failing.until(now, key) {
                let left = (until - now).saturating_sub(rate.interval);
                self.failing.set(now, key, now + left);
            }
        }
        self.note_known(now, keys);
    }

    /// Notes that a user logged in.
    pub(super) fn note_known(&mut self, now: Time, keys: Keys) {
        self.known.set(now, keys.pair, now + KNOWN);
    }

    fn counted(keys: Keys) -> impl Iterator<Item = (u64, Rate)> {
        let Keys { pair, address, user, is_shared, is_own } = keys;
        let counted = [(pair, PAIR, true), (address, ADDRESS, !is_shared), (user, USER, true)];
        counted.into_iter().filter(move |(.., counts)| *counts && !is_own).map(|(key, rate, _)| (key, rate))
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.failing.len(), self.known.len()]
    }
}
