//! Limits for one address, one user and all clients together.
//!
//! Counts the connections, the pending logins and the rates of each address and user that is or was recently
//! connected, and hands out [`Permit`]s, which are returned when they are dropped. An entry is forgotten when it is
//! like a new one, so no client gains by connecting again, and the tables are bounded. Time is an argument. Knows no
//! sockets and no AMQP.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::account::Account;
pub(crate) use super::account::Rates;
use super::bucket::Bucket;
use super::files;
use crate::config;

/// The number of addresses and users from which unused entries are removed.
const SWEEP: usize = 1024;
/// The largest number of addresses, and of users, that are remembered; more if more may be connected.
const REMEMBERED_MAX: usize = 1 << 16;
/// How often the tables are searched for unused entries while they are full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What an address may send at once before its users are known, in bytes: the logins of many users behind one address.
const LOGIN_BURST: u64 = 256 << 10;

/// All counts; see the [module](self).
#[derive(Debug)]
pub(crate) struct Limits {
    config: config::Limits,
    /// `limits.connections`, or fewer if the process may not open enough files.
    connections_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connections: usize,
    /// Connections that are not logged in.
    pending: usize,
    addresses: HashMap<IpAddr, Address>,
    users: HashMap<String, User>,
    sweep_at: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    pending: usize,
    upgrades: Bucket,
    /// Refused logins, if they are limited.
    refusals: Option<Bucket>,
    /// What connections send whose user is not known.
    account: Arc<Account>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    account: Arc<Account>,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitError {
    /// `limits.connections`
    Connections,
    /// `limits.pending_logins`
    PendingLogins,
    /// The process can open no more files.
    Files,
    /// `limits.connections_per_address`
    AddressConnections,
    /// `limits.pending_logins_per_address`
    AddressPendingLogins,
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
            Self::PendingLogins => "too many clients are logging in; try again later",
            Self::Files => "the gateway can open no more sockets; try again later",
            Self::AddressConnections => "your address has too many connections; close one or try again later",
            Self::AddressPendingLogins => "your address has too many connections that have not logged in; log in first",
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
            Self::PendingLogins | Self::AddressPendingLogins => 1,
            Self::Connections | Self::Files | Self::AddressConnections | Self::UserConnections => 10,
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
    Address { address: IpAddr, account: Arc<Account>, is_pending: bool },
    User(String),
}

impl Limits {
    pub(crate) fn new(config: config::Limits) -> Arc<Self> {
        let files_max = files::connections_max(config.pending_logins);
        let connections_max = config.connections.min(files_max.unwrap_or(usize::MAX));
        let state = State {
            connections: 0,
            pending: 0,
            addresses: HashMap::new(),
            users: HashMap::new(),
            sweep_at: SWEEP,
            swept: None,
        };
        Arc::new(Self { config, connections_max, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of open WebSockets.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// Returns the number of open WebSockets that are not logged in.
    pub(crate) fn pending_logins(&self) -> usize {
        self.state().pending
    }

    /// Returns the largest number of open WebSockets: fewer than `limits.connections` if too few files can be opened.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Takes a permit for a WebSocket of this address.
    ///
    /// # Errors
    /// [`LimitError`] if all clients or the address have reached a limit.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Permit, LimitError> {
        let address = network(address);
        let mut state = self.state();
        state.sweep(self.remembered_max(), now);
        if !state.addresses.contains_key(&address) && state.addresses.len() >= self.remembered_max() {
            return Err(LimitError::Connections);
        }
        let (total, pending) = (state.connections, state.pending);
        let entry = state.address(address, &self.config, now);
        entry.upgrades.take(1.0, now).map_err(LimitError::AddressRate)?;
        if let Some(refusals) = &mut entry.refusals {
            refusals.check(1.0, now).map_err(LimitError::AddressRefusals)?;
        }
        if total >= self.connections_max {
            return Err(LimitError::Connections);
        }
        if pending >= self.config.pending_logins {
            return Err(LimitError::PendingLogins);
        }
        if entry.connections >= self.config.connections_per_address {
            return Err(LimitError::AddressConnections);
        }
        if entry.pending >= self.config.pending_logins_per_address {
            return Err(LimitError::AddressPendingLogins);
        }
        entry.connections += 1;
        entry.pending += 1;
        let account = Arc::clone(&entry.account);
        state.connections += 1;
        state.pending += 1;
        Ok(Permit { limits: Arc::clone(self), holder: Holder::Address { address, account, is_pending: true } })
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
        let entry = state.user(user, rates, self.remembered_max(), now).ok_or(LimitError::Connections)?;
        if entry.connections >= self.config.connections_per_user {
            return Err(LimitError::UserConnections);
        }
        entry.connections += 1;
        Ok(Permit { limits: Arc::clone(self), holder: Holder::User(user.to_owned()) })
    }

    /// Returns the account of a user whose name is known, or `None` if too many users are remembered.
    pub(crate) fn account(&self, user: &str, rates: Rates, now: Instant) -> Option<Arc<Account>> {
        self.state().user(user, rates, self.remembered_max(), now).map(|user| Arc::clone(&user.account))
    }

    fn remembered_max(&self) -> usize {
        REMEMBERED_MAX.max(self.connections_max.saturating_mul(2))
    }
}

impl Permit {
    /// Returns what connections of the address are charged to while their users are not known.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        match &self.holder {
            Holder::Address { account, .. } => Some(account),
            Holder::User(_) => None,
        }
    }

    /// Counts the connection as one that is logged in.
    pub(crate) fn logged_in(&mut self) {
        if let Holder::Address { address, is_pending, .. } = &mut self.holder
            && std::mem::take(is_pending)
        {
            self.limits.state().logged_in(*address);
        }
    }
}

impl User {
    /// Whether the user has no connections and a full account, like a user that never connected.
    fn is_unused(&self, now: Instant) -> bool {
        self.connections == 0 && Arc::strong_count(&self.account) == 1 && self.account.is_full(now)
    }
}

impl Address {
    /// Whether the address has no connections and full buckets, like one that never connected.
    fn is_unused(&mut self, now: Instant) -> bool {
        let mut buckets = [Some(&mut self.upgrades), self.refusals.as_mut()].into_iter().flatten();
        self.connections == 0
            && Arc::strong_count(&self.account) == 1
            && buckets.all(|bucket| bucket.is_full(now))
            && self.account.is_full(now)
    }
}

impl State {
    fn address(&mut self, address: IpAddr, config: &config::Limits, now: Instant) -> &mut Address {
        let bucket = |a_minute: u32| Bucket::new(f64::from(a_minute) / 60.0, f64::from(a_minute), now);
        let rates = Rates::of_all(config);
        self.addresses.entry(address).or_insert_with(|| Address {
            connections: 0,
            pending: 0,
            upgrades: bucket(config.upgrades_per_minute),
            refusals: (config.refused_logins_per_minute > 0).then(|| bucket(config.refused_logins_per_minute)),
            account: Account::new(rates, LOGIN_BURST, now),
        })
    }

    /// Returns the entry of a user, or `None` if it is new and too many users are remembered.
    fn user(&mut self, user: &str, rates: Rates, remembered_max: usize, now: Instant) -> Option<&mut User> {
        self.sweep(remembered_max, now);
        if !self.users.contains_key(user) && self.users.len() >= remembered_max {
            return None;
        }
        let new = || User { connections: 0, account: Account::new(rates, 0, now) };
        let entry = self.users.entry(user.to_owned()).or_insert_with(new);
        entry.account.change(rates, now);
        Some(entry)
    }

    /// Removes the addresses and users that are like new ones, when there are many. Takes time that is linear in the
    /// entries, so it waits until they have doubled; if the tables are full, it runs once per [`SWEEP_INTERVAL`].
    fn sweep(&mut self, remembered_max: usize, now: Instant) {
        let is_grown = self.addresses.len() + self.users.len() >= self.sweep_at;
        let is_full = self.addresses.len().max(self.users.len()) >= remembered_max;
        let is_recent = self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL);
        if !is_grown && (!is_full || is_recent) {
            return;
        }
        self.addresses.retain(|_, address| !address.is_unused(now));
        self.users.retain(|_, user| !user.is_unused(now));
        self.sweep_at = ((self.addresses.len() + self.users.len()) * 2).max(SWEEP);
        self.swept = Some(now);
    }

    fn logged_in(&mut self, address: IpAddr) {
        self.pending -= 1;
        if let Some(entry) = self.addresses.get_mut(&address) {
            entry.pending -= 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.logged_in();
        let mut state = self.limits.state();
        match &self.holder {
            Holder::Address { address, .. } => {
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
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
        let account = limits.account("alice", rates, now).unwrap();
        account.charge(10, 500, now).settle();
        let charge = account.charge(0, 1500, now);
        assert_eq!(charge.wait, Duration::from_secs(1));
        charge.settle();
        drop((first, account));
        let account = limits.account("alice", rates, now).unwrap();
        let charge = account.charge(20, 0, now);
        assert_eq!(charge.wait, Duration::from_secs(2));
        charge.settle();
        assert_eq!(account.charge(0, 0, now + Duration::from_secs(2)).wait, Duration::ZERO);
    }

    #[test]
    fn connections_without_a_known_user_share_the_account_of_their_address() {
        let limits = limits(|limits| limits.messages_per_second = 10);
        let now = Instant::now();
        for round in 0..5_u64 {
            let permit = limits.connect(address(1), now).unwrap();
            let charge = permit.account().unwrap().charge(10, 0, now);
            assert_eq!(charge.wait, Duration::from_secs(round));
            charge.settle();
        }
        let other = limits.connect(address(2), now).unwrap();
        assert_eq!(other.account().unwrap().charge(10, 0, now).wait, Duration::ZERO);
    }

    #[test]
    fn connections_that_are_not_logged_in_are_counted_by_address_and_in_total() {
        let limits = limits(|limits| {
            limits.pending_logins = 3;
            limits.pending_logins_per_address = 2;
        });
        let now = Instant::now();
        let mut first = limits.connect(address(1), now).unwrap();
        let _second = limits.connect(address(1), now).unwrap();
        assert_eq!(limits.connect(address(1), now).unwrap_err(), LimitError::AddressPendingLogins);
        let third = limits.connect(address(2), now).unwrap();
        assert_eq!(limits.connect(address(3), now).unwrap_err(), LimitError::PendingLogins);
        drop(third);
        first.logged_in();
        first.logged_in();
        assert_eq!((limits.pending_logins(), limits.connections()), (1, 2));
        let _fourth = limits.connect(address(1), now).unwrap();
        drop(first);
        assert_eq!((limits.pending_logins(), limits.connections()), (2, 2));
    }

    #[test]
    fn more_addresses_than_can_be_remembered_are_refused_until_one_is_like_new() {
        let limits = limits(|_| {});
        let start = Instant::now();
        for n in 0..REMEMBERED_MAX as u32 {
            limits.connect(IpAddr::V4(n.into()), start).unwrap();
        }
        let next = IpAddr::V4((REMEMBERED_MAX as u32).into());
        assert_eq!(limits.connect(next, start).unwrap_err(), LimitError::Connections);
        assert_eq!(limits.state().addresses.len(), REMEMBERED_MAX);
        limits.connect(next, start + 2 * SWEEP_INTERVAL).unwrap();
        assert_eq!(limits.state().addresses.len(), 1);
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
}
