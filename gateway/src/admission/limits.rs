//! What one address, one user and all together may take.
//!
//! Owns a tally for each address and each user that is there, or was lately, and hands out [`Permit`]s that give back
//! what they stand for when they are dropped. Time comes in as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// How many tallies there may be before those of nobody are cleared away.
const SWEEP: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Limits {
    config: config::Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    addresses: HashMap<IpAddr, Address>,
    users: HashMap<String, User>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    upgrades: Bucket,
}

#[derive(Debug)]
struct User {
    connections: usize,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// What a user may send in a second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The gateway is full.
    Full,
    /// The address has as many connections as it may have.
    AddressConnections,
    /// The address comes too often; it may again after this long.
    AddressRate(Duration),
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Arc<Limits>,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Address(IpAddr),
    User(String),
}

/// A bucket of tokens that fills with time and may be overdrawn once: what comes in one piece passes in one piece, and
/// the next waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket of `capacity` tokens.
    pub(crate) fn new(per_second: f64, capacity: f64, now: Instant) -> Self {
        Self { per_second, capacity, level: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Takes `count` tokens, or says after how long to ask again.
    pub(crate) fn take(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.level < count.min(self.capacity) {
            return Err(self.wait(count.min(self.capacity)));
        }
        self.level -= count;
        Ok(())
    }

    /// Takes `count` tokens in any case, and says how long to wait before the next.
    pub(crate) fn overdraw(&mut self, count: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= count;
        self.wait(0.0)
    }

    fn wait(&self, wanted: f64) -> Duration {
        Duration::from_secs_f64(((wanted - self.level) / self.per_second).clamp(0.0, 3600.0))
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.capacity
    }
}

impl Limits {
    pub(crate) fn new(config: config::Limits) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// WebSockets that are open.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// A place for a WebSocket of this address.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Permit, Refusal> {
        let address = network(address);
        let mut state = self.state();
        state.sweep(now);
        let total = state.connections;
        let a_minute = f64::from(self.config.upgrades_per_minute);
        let entry = state
            .addresses
            .entry(address)
            .or_insert_with(|| Address { connections: 0, upgrades: Bucket::new(a_minute / 60.0, a_minute, now) });
        entry.upgrades.take(1.0, now).map_err(Refusal::AddressRate)?;
        if total >= self.config.connections {
            return Err(Refusal::Full);
        }
        if entry.connections >= self.config.connections_per_address {
            return Err(Refusal::AddressConnections);
        }
        entry.connections += 1;
        state.connections += 1;
        Ok(Permit { limits: Arc::clone(self), holder: Holder::Address(address) })
    }

    /// A place for a connection of this user, who is known to be it.
    pub(crate) fn log_in(self: &Arc<Self>, user: &str, rates: Rates, now: Instant) -> Option<Permit> {
        let mut state = self.state();
        state.sweep(now);
        // A second's worth may come at once.
        let bucket = |rate: f64| (rate > 0.0).then(|| Bucket::new(rate, rate, now));
        let entry = state.users.entry(user.to_owned()).or_insert_with(|| User {
            connections: 0,
            messages: bucket(f64::from(rates.messages)),
            bytes: bucket(rates.bytes as f64),
        });
        if entry.connections >= self.config.connections_per_user {
            return None;
        }
        entry.connections += 1;
        Some(Permit { limits: Arc::clone(self), holder: Holder::User(user.to_owned()) })
    }
}

impl Permit {
    /// Notes what a user has sent, and says how long they must pause before they send more.
    pub(crate) fn spend(&self, messages: u64, bytes: u64, now: Instant) -> Duration {
        let Holder::User(name) = &self.holder else { return Duration::ZERO };
        let mut state = self.limits.state();
        let Some(user) = state.users.get_mut(name) else { return Duration::ZERO };
        let wait = |bucket: &mut Option<Bucket>, count: u64| {
            bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.overdraw(count as f64, now))
        };
        wait(&mut user.messages, messages).max(wait(&mut user.bytes, bytes))
    }
}

impl User {
    /// Whether they may do as much as somebody who never came.
    fn is_as_new(&mut self, now: Instant) -> bool {
        let mut buckets = [&mut self.messages, &mut self.bytes].into_iter().flatten();
        self.connections == 0 && buckets.all(|bucket| bucket.is_full(now))
    }
}

impl State {
    /// Forgets addresses and users that have no connection and have not come for so long that they may do what any may.
    fn sweep(&mut self, now: Instant) {
        if self.addresses.len() + self.users.len() >= self.sweep_at.max(SWEEP) {
            self.addresses.retain(|_, address| address.connections > 0 || !address.upgrades.is_full(now));
            self.users.retain(|_, user| !user.is_as_new(now));
            self.sweep_at = (self.addresses.len() + self.users.len()) * 2;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limits.state();
        match &self.holder {
            Holder::Address(address) => {
                state.connections -= 1;
                if let Some(entry) = state.addresses.get_mut(address) {
                    entry.connections -= 1;
                }
            }
            Holder::User(name) => {
                if let Some(user) = state.users.get_mut(name) {
                    user.connections -= 1;
                }
            }
        }
    }
}

/// One customer of IPv6 has a network of 64 bits at least, so that is what counts as an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut config::Limits)) -> Arc<Limits> {
        let mut config = config::Limits::default();
        change(&mut config);
        Limits::new(config)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = limits(|limits| (limits.connections, limits.connections_per_address) = (3, 2));
        let now = Instant::now();
        let first = limits.connect(address(1), now).unwrap();
        let _second = limits.connect(address(1), now).unwrap();
        assert_eq!(limits.connect(address(1), now).unwrap_err(), Refusal::AddressConnections);
        let _third = limits.connect(address(2), now).unwrap();
        assert_eq!(limits.connect(address(3), now).unwrap_err(), Refusal::Full);
        drop(first);
        assert_eq!(limits.connections(), 2);
        limits.connect(address(1), now).unwrap();
        assert_eq!(limits.connections(), 2);
    }

    #[test]
    fn who_comes_too_often_waits() {
        let limits = limits(|limits| limits.upgrades_per_minute = 60);
        let now = Instant::now();
        for _ in 0..60 {
            limits.connect(address(1), now).unwrap();
        }
        let Err(Refusal::AddressRate(wait)) = limits.connect(address(1), now) else { panic!("there is no rate") };
        assert_eq!(wait, Duration::from_secs(1));
        limits.connect(address(2), now).unwrap();
        limits.connect(address(1), now + wait).unwrap();
    }

    #[test]
    fn users_are_counted_by_name() {
        let limits = limits(|limits| limits.connections_per_user = 1);
        let now = Instant::now();
        let log_in = |name| limits.log_in(name, Rates::default(), now);
        let first = log_in("alice").unwrap();
        assert!(log_in("alice").is_none() && log_in("bob").is_some());
        drop(first);
        assert!(log_in("alice").is_some());
    }

    #[test]
    fn a_user_who_comes_back_is_not_given_another_second() {
        let limits = limits(|_| {});
        let now = Instant::now();
        let rates = Rates { messages: 10, bytes: 1000 };
        let first = limits.log_in("alice", rates, now).unwrap();
        assert_eq!(first.spend(10, 500, now), Duration::ZERO);
        assert_eq!(first.spend(0, 1500, now), Duration::from_secs(1));
        drop(first);
        let second = limits.log_in("alice", rates, now).unwrap();
        assert_eq!(second.spend(20, 0, now), Duration::from_secs(2));
        assert_eq!(second.spend(0, 0, now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn nobody_is_remembered_for_ever() {
        let limits = limits(|limits| limits.connections = usize::MAX);
        let mut now = Instant::now();
        for n in 0..100_000_u32 {
            now += Duration::from_secs(1);
            limits.connect(IpAddr::V4(n.into()), now).unwrap();
            limits.log_in(&n.to_string(), Rates { messages: 1, bytes: 0 }, now).unwrap();
        }
        let state = limits.state();
        assert!(state.addresses.len() + state.users.len() <= 2 * SWEEP);
    }

    #[test]
    fn neighbours_in_a_network_of_ipv6_are_one() {
        let [a, b, c]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        assert!(network(a) == network(b) && network(a) != network(c));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), address(1));
    }

    #[test]
    fn an_overdrawn_bucket_makes_the_next_wait() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100.0, 100.0, now);
        assert_eq!(bucket.overdraw(300.0, now), Duration::from_secs(2));
        assert_eq!(bucket.overdraw(0.0, now + Duration::from_secs(2)), Duration::ZERO);
    }
}
