//! Logins whose passwords must be verified: which is next, and when.
//!
//! Owns the waiting logins, their throttle, the results of the last verifications, and how many connections are not
//! logged in yet. Logins come in with the address of the client and the time; out goes whether to verify a password
//! now. It must never know passwords nor hashes: it knows digests of them under a key of its own.
//!
//! A verification costs milliseconds on purpose, and only a few run at once. So that a flood of logins from one address
//! does not delay those from others, addresses have turns ([`Queue`]), and wrong passwords must wait ([`Throttle`]).
//!
//! Two kinds of results are remembered, so that clients that all connect at once, with the right or an outdated
//! password, do not cost a verification each:
//! - The right password of a user, for ten minutes. Whether a password is remembered is only looked up when it could be
//!   verified as well, so that no client can guess faster. A new password of the user has another hash, and with it
//!   another digest.
//! - A wrong password, for a minute, for the address that it came from. It is refused at once, and counts as no further
//!   failure, for it is no new guess.

mod attempt;
mod queue;
mod recent;
mod throttle;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use argon2::password_hash::generate_salt;
use hopmq_proto::Time;
use sha2::{Digest, Sha256};

use super::shared::Shared;
use super::{Broker, Builder};
use crate::engine::Claim;
pub(super) use attempt::{Attempt, Outcome};
use queue::{Queue, Ticket};
use recent::Recent;
pub(crate) use throttle::Source;
use throttle::{Keys, Throttle};

/// Connections that are not logged in yet, over all addresses.
const MOST_PENDING: usize = 5_000;
/// Connections from one address that are not logged in yet.
const MOST_PENDING_OF_ADDRESS: usize = 2_000;
/// How long a login waits for its verification. The client then has two seconds to read why it is closed.
const WAIT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a right password is remembered, and a wrong one.
const RIGHT: Duration = Duration::from_secs(10 * 60);
const WRONG: Duration = Duration::from_secs(60);
/// How many of each are remembered, in about 100 bytes each.
const MOST_REMEMBERED: usize = 1 << 14;
/// How often is logged that logins wait or were turned away.
const REPORT: Duration = Duration::from_secs(10);

/// What has happened to the logins whose passwords are verified. `guest` with its predeclared password is not among
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginCounts {
    /// Logins with a right password.
    pub accepted: u64,
    /// Logins with a wrong password or an unknown user.
    pub refused: u64,
    /// Logins that had to wait after wrong passwords.
    pub throttled: u64,
    /// Connections that were closed because too many were not logged in, or waited too long for that.
    pub turned_away: u64,
    /// Connections that are not logged in yet.
    pub pending: usize,
}

/// A digest of a user, its hash and a password.
type Mac = [u8; 16];

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Logins {
    throttle: Throttle,
    queue: Queue,
    waiting: HashMap<Ticket, Waiting>,
    serial: Ticket,
    running: usize,
    /// The limit of verifications at once.
    most_running: usize,
    right: Recent<Mac>,
    wrong: Recent<Mac>,
    pending: HashMap<Source, usize>,
    counts: LoginCounts,
    /// What was reported last, and when there may be another report.
    reported: (LoginCounts, Time),
}

/// A login that waits, or is being verified.
#[derive(Debug)]
struct Waiting {
    login: Login,
    arrived: Time,
    was_delayed: bool,
    turn: Turn,
    waker: Option<Waker>,
}

/// What is known of a login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login {
    source: Option<Source>,
    keys: Keys,
    right: Mac,
    wrong: Mac,
}

/// What to do with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask again at that time, or when woken.
    Wait(Time),
    Verify,
    /// The result is remembered.
    Known(bool),
    /// It has waited too long.
    Late,
}

/// The key of the digests. It is random, and of this broker alone.
#[derive(Clone)]
pub(crate) struct MacKey([[u8; 16]; 2]);

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey")
    }
}

impl Builder {
    /// Sets an address that many clients share, such as that of a gateway or proxy that does not send the PROXY
    /// protocol: wrong passwords of some of its clients must not keep the others out. Logins from there wait for two
    /// seconds at most, and may be half of the connections that are not logged in. The proxy must limit its clients'
    /// wrong passwords itself. May be called several times.
    #[must_use]
    pub fn shared_address(mut self, address: IpAddr) -> Self {
        self.shared_addresses.push(address);
        self
    }
}

impl Broker {
    /// Returns what has happened to the logins whose passwords are verified.
    pub fn login_counts(&self) -> LoginCounts {
        self.0.shared.logins().counts
    }

    /// Admits a client from an address, unless too many connections are not logged in.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Admission> {
        Admission::to(&self.0.shared, Source::of(address))
    }
}

impl MacKey {
    pub(crate) fn random() -> Self {
        Self([generate_salt(), generate_salt()])
    }

    /// Hashes twice, as HMAC does.
    fn digest(&self, source: Option<Source>, claim: &Claim) -> Mac {
        let mut inner = Sha256::new().chain_update(self.0.as_flattened());
        let source = source.map(Source::octets).unwrap_or_default();
        let hash = claim.hash.as_deref().unwrap_or_default();
        for part in [&source, claim.user.as_bytes(), hash.as_bytes(), &claim.password] {
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        let outer = Sha256::new().chain_update(self.0.as_flattened()).chain_update(inner.finalize()).finalize();
        outer.first_chunk().copied().unwrap_or_default()
    }
}

impl Logins {
    /// `shared` are the addresses that many clients share.
    pub(crate) fn new(shared: impl IntoIterator<Item = IpAddr>, most_running: usize) -> Self {
        let shared: HashSet<Source> = shared.into_iter().map(Source::of).collect();
        Self {
            throttle: Throttle::new(shared),
            queue: Queue::default(),
            waiting: HashMap::new(),
            serial: 0,
            running: 0,
            most_running,
            right: Recent::new(MOST_REMEMBERED),
            wrong: Recent::new(MOST_REMEMBERED),
            pending: HashMap::new(),
            counts: LoginCounts::default(),
            reported: (LoginCounts::default(), Time::ZERO),
        }
    }

    /// Counts a connection that is not logged in yet, unless there are too many. An address may have as many as there
    /// are left for all others, so that there is a place for each further address.
    fn admit(&mut self, now: Time, source: Source) -> bool {
        let left = MOST_PENDING.saturating_sub(self.counts.pending);
        let limit = if self.throttle.is_shared(source) { left } else { left.min(MOST_PENDING_OF_ADDRESS) };
        let pending = self.pending.get(&source).copied().unwrap_or_default();
        if pending >= limit {
            self.counts.turned_away += 1;
            self.report(now);
            return false;
        }
        self.pending.insert(source, pending + 1);
        self.counts.pending += 1;
        true
    }

    fn leave(&mut self, source: Source) {
        self.counts.pending -= 1;
        if let Some(pending) = self.pending.get_mut(&source) {
            *pending -= 1;
            if *pending == 0 {
                self.pending.remove(&source);
            }
        }
    }

    /// Returns what to know of a login, without the lock.
    fn login(&self, source: Option<Source>, user: &str, right: Mac, wrong: Mac) -> Login {
        Login { source, keys: self.throttle.keys(source, user), right, wrong }
    }

    /// Takes in a login. It must be [left](Logins::end) or [finished](Logins::finish).
    fn enter(&mut self, now: Time, login: Login, wakes: &mut Vec<Waker>) -> Ticket {
        self.serial += 1;
        let ticket = self.serial;
        let waiting = Waiting { login, arrived: now, was_delayed: false, turn: Turn::Wait(now), waker: None };
        self.waiting.insert(ticket, waiting);
        match self.remembered(now, now, login) {
            Some(holds) => self.settle(now, ticket, holds),
            None => {
                self.queue.push(login.source, ticket);
                self.grant(now, wakes);
            }
        }
        ticket
    }

    /// Returns what to do with a login. Wakes it when that changes.
    fn turn(&mut self, now: Time, ticket: Ticket, waker: &Waker, wakes: &mut Vec<Waker>) -> Turn {
        self.grant(now, wakes);
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return Turn::Late };
        let late = waiting.arrived + WAIT_TIMEOUT;
        if !matches!(waiting.turn, Turn::Wait(_)) {
            return waiting.turn;
        }
        if late <= now {
            self.counts.turned_away += 1;
            self.report(now);
            return Turn::Late;
        }
        waiting.waker = Some(waker.clone());
        Turn::Wait(self.queue.delayed_until(ticket).unwrap_or(late).min(late))
    }

    /// Lets logins have their turns, as many as can be verified at once.
    fn grant(&mut self, now: Time, wakes: &mut Vec<Waker>) {
        while let Some(ticket) = self.queue.first(now) {
            let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
            let (login, arrived) = (waiting.login, waiting.arrived);
            let free_at = self.throttle.free_at(now, arrived, login.keys);
            let remembered = self.remembered(now, arrived, login);
            if remembered.is_none() && free_at <= now && self.running >= self.most_running {
                return;
            }
            let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
            wakes.extend(waiting.waker.take());
            match remembered {
                Some(holds) => {
                    self.queue.remove(ticket);
                    self.settle(now, ticket, holds);
                }
                None if free_at > now => {
                    self.counts.throttled += u64::from(!std::mem::replace(&mut waiting.was_delayed, true));
                    self.queue.delay(ticket, free_at);
                    self.report(now);
                }
                None => {
                    waiting.turn = Turn::Verify;
                    self.queue.remove(ticket);
                    self.running += 1;
                    // A client that leaves before its answer has guessed nevertheless.
                    self.throttle.failed(now, login.keys);
                }
            }
        }
    }

    /// Returns the result of an earlier verification. Whether the password is right is told only when it could be
    /// verified as well.
    fn remembered(&self, now: Time, arrived: Time, login: Login) -> Option<bool> {
        if self.wrong.until(now, login.wrong).is_some() {
            return Some(false);
        }
        let is_free = self.throttle.free_at(now, arrived, login.keys) <= now;
        (is_free && self.right.until(now, login.right).is_some()).then_some(true)
    }

    /// Notes a result that was remembered.
    fn settle(&mut self, now: Time, ticket: Ticket, holds: bool) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        waiting.turn = Turn::Known(holds);
        match holds {
            true => self.counts.accepted += 1,
            false => self.counts.refused += 1,
        }
        if holds {
            self.throttle.note_known(now, waiting.login.keys);
        }
    }

    /// Handles the result of a verification.
    fn finish(&mut self, now: Time, ticket: Ticket, holds: bool) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        let Login { keys, right, wrong, .. } = waiting.login;
        match holds {
            true => {
                self.throttle.succeeded(now, keys);
                self.right.set(now, right, now + RIGHT);
                self.counts.accepted += 1;
            }
            false => {
                self.wrong.set(now, wrong, now + WRONG);
                self.counts.refused += 1;
            }
        }
    }

    /// Removes a login.
    fn end(&mut self, now: Time, ticket: Ticket, wakes: &mut Vec<Waker>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        self.queue.remove(ticket);
        if waiting.turn == Turn::Verify {
            self.running -= 1;
        }
        self.grant(now, wakes);
    }

    #[cfg(test)]
    fn sizes(&self) -> Vec<usize> {
        [&self.throttle.sizes()[..], &[self.right.len(), self.wrong.len()]].concat()
    }

    /// Logs from time to time that logins had to wait or were turned away.
    fn report(&mut self, now: Time) {
        let (last, next) = self.reported;
        if now < next {
            return;
        }
        let counts = self.counts;
        self.reported = (counts, now + REPORT);
        tracing::warn!(
            refused = counts.refused - last.refused,
            throttled = counts.throttled - last.throttled,
            turned_away = counts.turned_away - last.turned_away,
            waiting = self.waiting.len(),
            pending = counts.pending,
            "many logins: wrong passwords must wait, or too many connections are not logged in"
        );
    }
}

/// A connection that is not logged in yet. Dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
    source: Source,
}

impl Admission {
    /// Admits a connection, unless too many are not logged in.
    pub(crate) fn to(shared: &Arc<Shared>, source: Source) -> Option<Self> {
        let now = shared.clock.now();
        shared.logins().admit(now, source).then(|| Self { shared: Arc::clone(shared), source })
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.shared.logins().leave(self.source);
    }
}

#[cfg(test)]
mod tests;
