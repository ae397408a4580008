//! Limits for one address, one user and all clients together.
//!
//! Counts the connections and the rate of each address and user that is or was recently connected, and hands out
//! [`Permit`]s, which are returned when they are dropped. Time is an argument.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// The number of addresses and users from which unused entries are removed.
const SWEEP: usize = 1024;

/// All counts; see the [module](self).
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
    /// Refused logins, if they are limited.
    refusals: Option<Bucket>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// What a user may send per second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitError {
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_address`
    AddressConnections,
    /// `limits.upgrades_per_minute`; the address may connect again after this time.
    AddressRate(Duration),
    /// `limits.refused_logins_per_minute`; the address may connect again after this time.
    AddressRefusals(Duration),
    /// `limits.connections_per_user`
    UserConnections,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "the gateway has too many connections; try again later",
            Self::AddressConnections => "your address has too many connections; close one or try again later",
            Self::AddressRate(wait) => {
                return write!(f, "your address connects too often; try again in {} s", seconds(*wait));
            }
            Self::AddressRefusals(wait) => {
                let wait = seconds(*wait);
                return write!(f, "too many logins of your address were refused; try again in {wait} s");
            }
            Self::UserConnections => "the user has too many connections",
        })
    }
}

impl std::error::Error for LimitError {}

impl LimitError {
    /// Returns after how many seconds the client may try again.
    pub(crate) fn retry_after(&self) -> u64 {
        match self {
            Self::AddressRate(wait) | Self::AddressRefusals(wait) => seconds(*wait),
            Self::Connections | Self::AddressConnections | Self::UserConnections => 10,
        }
    }
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs().max(1)
}

/// One connection of an address or of a user, returned when it is dropped.
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

/// A token bucket that may be overdrawn: a large piece passes whole, and the next piece waits until the bucket has
/// recovered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Returns a full bucket of `capacity` tokens.
    pub(crate) fn new(per_second: f64, capacity: f64, now: Instant) -> Self {
        Self { per_second, capacity, level: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Takes `count` tokens, or returns after how long to try again.
    pub(crate) fn take(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.level < count.min(self.capacity) {
            return Err(self.wait(count.min(self.capacity)));
        }
        self.level -= count;
        Ok(())
    }

    /// Checks that `count` tokens could be taken, or returns after how long they could.
    pub(crate) fn check(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.level < count { Err(self.wait(count)) } else { Ok(()) }
    }

    /// Takes `count` tokens in any case, and returns how long to wait before the next call.
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

    /// Returns the number of open WebSockets.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// Takes a permit for a WebSocket of this address.
    ///
    /// # Errors
    /// [`LimitError`] if all clients or the address have reached a limit.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Permit, LimitError> {
        let address = network(address);
        let mut state = self.state();
        state.sweep(now);
        let total = state.connections;
        let entry = state.address(address, &self.config, now);
        entry.upgrades.take(1.0, now).map_err(LimitError::AddressRate)?;
        if let Some(refusals) = &mut entry.refusals {
            refusals.check(1.0, now).map_err(LimitError::AddressRefusals)?;
        }
        if total >= self.config.connections {
            return Err(LimitError::Connections);
        }
        if entry.connections >= self.config.connections_per_address {
            return Err(LimitError::AddressConnections);
        }
        entry.connections += 1;
        state.connections += 1;
        Ok(Permit { limits: Arc::clone(self), holder: Holder::Address(address) })
    }

    /// Counts a refused login of this address.
    pub(crate) fn login_refused(&self, address: IpAddr, now: Instant) {
        let mut state = self.state();
        if let Some(refusals) = &mut state.address(network(address), &self.config, now).refusals {
            refusals.overdraw(1.0, now);
        }
    }

    /// Takes a permit for a connection of a user that RabbitMQ has authenticated.
    ///
    /// # Errors
    /// [`LimitError::UserConnections`] if the user has reached the limit.
    pub(crate) fn log_in(self: &Arc<Self>, user: &str, rates: Rates, now: Instant) -> Result<Permit, LimitError> {
        let mut state = self.state();
        state.sweep(now);
        // A burst may have as much as one second allows.
        let bucket = |rate: f64| (rate > 0.0).then(|| Bucket::new(rate, rate, now));
        let entry = state.users.entry(user.to_owned()).or_insert_with(|| User {
            connections: 0,
            messages: bucket(f64::from(rates.messages)),
            bytes: bucket(rates.bytes as f64),
        });
        if entry.connections >= self.config.connections_per_user {
            return Err(LimitError::UserConnections);
        }
        entry.connections += 1;
        Ok(Permit { limits: Arc::clone(self), holder: Holder::User(user.to_owned()) })
    }
}

impl Permit {
    /// Counts what the user has sent, and returns how long to wait before reading more from the user.
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
    /// Whether the user has no connections and full buckets, like a user that never connected.
    fn is_unused(&mut self, now: Instant) -> bool {
        let mut buckets = [&mut self.messages, &mut self.bytes].into_iter().flatten();
        self.connections == 0 && buckets.all(|bucket| bucket.is_full(now))
    }
}

impl Address {
    /// Whether the address has no connections and full buckets, like one that never connected.
    fn is_unused(&mut self, now: Instant) -> bool {
        let mut buckets = [Some(&mut self.upgrades), self.refusals.as_mut()].into_iter().flatten();
        self.connections == 0 && buckets.all(|bucket| bucket.is_full(now))
    }
}

impl State {
    fn address(&mut self, address: IpAddr, config: &config::Limits, now: Instant) -> &mut Address {
        let bucket = |a_minute: u32| Bucket::new(f64::from(a_minute) / 60.0, f64::from(a_minute), now);
        self.addresses.entry(address).or_insert_with(|| Address {
            connections: 0,
            upgrades: bucket(config.upgrades_per_minute),
            refusals: (config.refused_logins_per_minute > 0).then(|| bucket(config.refused_logins_per_minute)),
        })
    }

    /// Removes addresses and users that have no connections and full buckets.
    fn sweep(&mut self, now: Instant) {
        if self.addresses.len() + self.users.len() >= self.sweep_at.max(SWEEP) {
            self.addresses.retain(|_, address| !address.is_unused(now));
            self.users.retain(|_, user| !user.is_unused(now));
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

/// Returns the address under which a client is counted. An IPv6 customer has at least a /64, so that is counted.
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
    fn connections_are_counted_until_their_permits_are_dropped() {
        let limits = limits(|limits| {
            limits.connections = 3;
            limits.connections_per_address = 2;
        });
        let now = Instant::now();
        let first = limits.connect(address(1), now).unwrap();
        let _second = limits.connect(address(1), now).unwrap();
        assert_eq!(limits.connect(address(1), now).unwrap_err(), LimitError::AddressConnections);
        let _third = limits.connect(address(2), now).unwrap();
        assert_eq!(limits.connect(address(3), now).unwrap_err(), LimitError::Connections);
        drop(first);
        assert_eq!(limits.connections(), 2);
        limits.connect(address(1), now).unwrap();
        assert_eq!(limits.connections(), 2);
    }

    #[test]
    fn an_address_that_connects_too_often_must_wait() {
        let limits = limits(|limits| limits.upgrades_per_minute = 60);
        let now = Instant::now();
        for _ in 0..60 {
            limits.connect(address(1), now).unwrap();
        }
        let Err(LimitError::AddressRate(wait)) = limits.connect(address(1), now) else {
            panic!("the address is not limited")
        };
        assert_eq!(wait, Duration::from_secs(1));
        limits.connect(address(2), now).unwrap();
        limits.connect(address(1), now + wait).unwrap();
    }

    #[test]
    fn connections_are_counted_by_user() {
        let limits = limits(|limits| limits.connections_per_user = 1);
        let now = Instant::now();
        let log_in = |name| limits.log_in(name, Rates::default(), now);
        let first = log_in("alice").unwrap();
        assert!(log_in("alice").is_err() && log_in("bob").is_ok());
        drop(first);
        assert!(log_in("alice").is_ok());
    }

    #[test]
    fn reconnecting_does_not_refill_the_rate() {
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
    fn unused_addresses_and_users_are_removed() {
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
    fn an_ipv6_network_of_64_bits_counts_as_one_address() {
        let [a, b, c]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        assert!(network(a) == network(b) && network(a) != network(c));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), address(1));
    }

    #[test]
    fn an_overdrawn_bucket_makes_the_next_piece_wait() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100.0, 100.0, now);
        assert_eq!(bucket.overdraw(300.0, now), Duration::from_secs(2));
        assert_eq!(bucket.overdraw(0.0, now + Duration::from_secs(2)), Duration::ZERO);
    }
}
