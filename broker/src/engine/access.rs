//! Users and permissions: what each user may do (RabbitMQ's page "Access Control").
//!
//! Owns the users: their passwords, tags and permissions. It must never know what an operation does. It does not verify
//! hashed passwords either, which is slow on purpose: it returns a [`Claim`], and gets the result later.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hopmq_proto::FieldTable;
use hopmq_proto::Value;
use regex_lite::Regex;

use crate::engine::GUEST;
use crate::engine::kinds::Kinds;
use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::refusal::Refusal;

/// What a user wants to do with a queue or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Configure,
    Write,
    Read,
}

/// The queue or exchange that an operation is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

/// A user who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Name,
    /// Whether the user may publish in the name of others.
    pub(crate) impersonator: bool,
}

/// The result of a login.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    In(User),
    /// The password must be verified first.
    Check(Claim),
    Refused(RefusedLogin),
    /// The mechanism was not offered.
    NotOffered(RefusedLogin),
}

/// A refused login.
#[derive(Clone, Debug)]
pub(crate) struct RefusedLogin {
    /// The error for the client.
    pub(crate) refusal: Refusal,
    /// The name that the client gave.
    pub(crate) user: String,
    pub(crate) mechanism: String,
    /// The reason, for the logs alone: the client must not learn which names exist.
    pub(crate) why: &'static str,
}

impl RefusedLogin {
    pub(super) fn new(mechanism: &str, user: &[u8], why: &'static str) -> Self {
        let refusal = refused_login(mechanism);
        Self { refusal, user: String::from_utf8_lossy(user).into_owned(), mechanism: mechanism.to_owned(), why }
    }
}

/// A login whose password must be verified.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) user: Name,
    pub(crate) password: Vec<u8>,
    /// `None` if no password is right. The claim must be verified nevertheless, so that the time does not tell why.
    pub(crate) hash: Option<Arc<str>>,
    /// The kinds of hashes that users have. One of each must be computed, so that the time does not tell the user's.
    pub(crate) kinds: Arc<[Box<str>]>,
    mechanism: &'static str,
    /// The reason to refuse it, if there is another one than the password.
    why: Option<&'static str>,
}

/// How a user is authenticated.
#[derive(Clone)]
pub(crate) enum Password {
    /// A publicly known password: that of `guest`, who may log in from this machine only.
    WellKnown(&'static str),
    /// The argon2 hash, as a PHC string, or RabbitMQ's salted hash.
    Hash(Arc<str>),
    /// The user can't log in with any password.
    None,
}

/// The names that a user may access: a regular expression that matches anywhere in them. The empty one matches none.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    All,
    None,
    Some(Regex),
}

/// The users and their permissions.
#[derive(Debug)]
pub(crate) struct Access {
    users: BTreeMap<Name, Account>,
    kinds: Kinds,
    profile: Profile,
}

/// A user's account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) password: Password,
    /// Whether the user may log in from this machine only.
    pub(super) local: bool,
    pub(super) impersonator: bool,
    pub(super) limits: UserLimits,
    /// By virtual host.
    pub(super) permissions: BTreeMap<Name, Permissions>,
    /// By virtual host and exchange: the routing keys that may be written and read.
    pub(super) topics: BTreeMap<(Name, Name), [Pattern; 2]>,
}

/// The limits of a user (RabbitMQ's page "User Limits").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserLimits {
    /// Open connections.
    pub(crate) connections: Option<u32>,
    /// Open channels, over all connections.
    pub(crate) channels: Option<u32>,
}

/// Patterns for configure, write and read in a virtual host.
type Permissions = [Pattern; 3];

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, regex_lite::Error> {
        match text {
            "" => Ok(Self::None),
            ".*" => Ok(Self::All),
            text => Regex::new(text).map(Self::Some),
        }
    }

    /// Returns the text that [`Pattern::parse`] parses.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::All => ".*",
            Self::None => "",
            Self::Some(regex) => regex.as_str(),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(regex) => regex.is_match(name),
        }
    }
}

impl Access {
    /// Returns the rules without any user.
    pub(crate) fn new(profile: Profile) -> Self {
        Self { users: BTreeMap::new(), kinds: Kinds::default(), profile }
    }

    /// Logs a user in, refuses the login, or asks for the password to be verified. `local` says whether the client is
    /// on this machine.
    pub(crate) fn login(&self, mechanism: &str, response: &[u8], local: bool) -> Login {
        let refused = |user: &[u8], why| Login::Refused(RefusedLogin::new(mechanism, user, why));
        let (mechanism, credentials) = match mechanism {
            "PLAIN" => ("PLAIN", plain(response)),
            "AMQPLAIN" => ("AMQPLAIN", amqplain(response)),
            // As in RabbitMQ, an anonymous client logs in with the predeclared user and password.
            "ANONYMOUS" if self.profile.offers_anonymous() => ("ANONYMOUS", Some((GUEST.as_bytes(), GUEST.as_bytes()))),
            _ => return Login::NotOffered(RefusedLogin::new(mechanism, b"", "the mechanism is not offered")),
        };
        let Some((name, password)) = credentials else { return refused(b"", "the credentials can't be read") };
        // It says nothing about the user.
        if password.is_empty() {
            return refused(name, "the password is empty");
        }
        let account = std::str::from_utf8(name).ok().and_then(|name| self.users.get_key_value(name));
        let (hash, why) = match account {
            None => (None, Some("unknown user")),
            Some((_, account)) if account.local && !local => (None, Some("the user may log in from this machine only")),
            Some((user, account)) => match &account.password {
                Password::WellKnown(known) if known.as_bytes() == password => return Login::In(account.user(user)),
                Password::WellKnown(_) => (None, None),
                Password::Hash(hash) => (Some(Arc::clone(hash)), None),
                Password::None => (None, Some("the user has no password")),
            },
        };
        let user = String::from_utf8_lossy(name).into();
        let kinds = self.kinds.list();
        Login::Check(Claim { user, password: password.to_vec(), hash, kinds, mechanism, why })
    }

    /// Logs in a user whose password was verified, unless the password was changed in the meantime.
    pub(crate) fn judge(&self, claim: &Claim, holds: bool) -> Login {
        match self.users.get(&claim.user) {
            Some(account) if holds && account.password.is(claim.hash.as_ref()) => Login::In(account.user(&claim.user)),
            _ => {
                let why = claim.why.unwrap_or("wrong password");
                Login::Refused(RefusedLogin::new(claim.mechanism, claim.user.as_bytes(), why))
            }
        }
    }

    /// Whether a user may open an existing virtual host.
    pub(crate) fn may_open(&self, user: &User, vhost: &str) -> bool {
        self.users.get(&user.name).is_some_and(|account| account.permissions.contains_key(vhost))
    }

    /// Checks that a user has a permission for a queue or an exchange.
    pub(crate) fn check(
        &self,
        user: &User,
        vhost: &str,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        let permissions = self.users.get(&user.name).and_then(|account| account.permissions.get(vhost));
        let (kind, name) = match resource {
            Resource::Queue(name) => ("queue", name),
            Resource::Exchange("") => ("exchange", "amq.default"),
            Resource::Exchange(name) => ("exchange", name),
        };
        if permissions.is_some_and(|permissions| permissions[permission as usize].matches(name)) {
            return Ok(());
        }
        let access = self.access_name(permission);
        Err(Refusal::access(format_args!(
            "{access} to {kind} '{name}' in vhost '{vhost}' refused for user '{}'",
            user.name
        )))
    }

    /// Returns how a refusal names a missing permission.
    fn access_name(&self, permission: Permission) -> &'static str {
        match permission {
            _ if !self.profile.names_permissions() => "access",
            Permission::Configure => "configure access",
            Permission::Write => "write access",
            Permission::Read => "read access",
        }
    }

    /// Checks that a user may publish to a topic exchange, or bind to it, with a routing key.
    pub(crate) fn check_topic(
        &self,
        user: &User,
        vhost: &str,
        permission: Permission,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        let topics = self.users.get(&user.name).filter(|account| !account.topics.is_empty());
        let Some(patterns) = topics.and_then(|account| account.topics.get(&(vhost.into(), exchange.into()))) else {
            return Ok(());
        };
        if patterns[usize::from(permission == Permission::Read)].matches(key) {
            return Ok(());
        }
        let access = self.access_name(permission);
        Err(Refusal::access(format_args!(
            "{access} to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{}'",
            user.name
        )))
    }

    /// Adds a user without tags and permissions, or changes the password of an existing one.
    pub(crate) fn set_password(&mut self, user: &str, password: Password, local: bool) {
        self.count_hash(user, Kinds::remove);
        let account = self.users.entry(user.into()).or_insert_with(|| Account::new(password.clone(), local));
        account.password = password;
        account.local = local;
        self.count_hash(user, Kinds::add);
    }

    /// Returns the kinds of hashes that users have.
    pub(crate) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    fn count_hash(&mut self, user: &str, count: fn(&mut Kinds, &str)) {
        if let Some(Account { password: Password::Hash(hash), .. }) = self.users.get(user) {
            count(&mut self.kinds, hash);
        }
    }

    /// Whether `guest` has its predeclared password.
    pub(crate) fn has_default_user(&self) -> bool {
        self.users.get(super::GUEST).is_some_and(|account| matches!(account.password, Password::WellKnown(_)))
    }

    pub(super) fn account(&self, user: &str) -> Option<&Account> {
        self.users.get(user)
    }

    pub(super) fn put(&mut self, user: &str, account: Account) {
        self.count_hash(user, Kinds::remove);
        self.users.insert(user.into(), account);
        self.count_hash(user, Kinds::add);
    }

    /// Removes a user. Open connections of the user stay open, without any permission.
    pub(crate) fn remove(&mut self, user: &str) -> bool {
        self.count_hash(user, Kinds::remove);
        self.users.remove(user).is_some()
    }

    /// Sets whether a user may publish in the name of others, from the next login on.
    pub(crate) fn set_impersonator(&mut self, user: &str, impersonator: bool) -> bool {
        self.users.get_mut(user).map(|account| account.impersonator = impersonator).is_some()
    }

    /// Sets a user's limits, for connections and channels from now on.
    #[cfg(feature = "definitions")]
    pub(crate) fn set_limits(&mut self, user: &str, limits: UserLimits) {
        if let Some(account) = self.users.get_mut(user) {
            account.limits = limits;
        }
    }

    /// Returns a user's limits.
    pub(super) fn limits(&self, user: &str) -> UserLimits {
        self.users.get(user).map(|account| account.limits).unwrap_or_default()
    }

    /// Sets a user's permissions in a virtual host.
    pub(crate) fn set_permissions(&mut self, user: &str, vhost: &str, permissions: Permissions) -> bool {
        self.users.get_mut(user).map(|account| account.permissions.insert(vhost.into(), permissions)).is_some()
    }

    /// Removes a user's permissions in a virtual host.
    #[cfg(feature = "definitions")]
    pub(super) fn remove_permissions(&mut self, user: &str, vhost: &str) {
        self.users.get_mut(user).map(|account| account.permissions.remove(vhost));
    }

    /// Returns all users by name.
    #[cfg(feature = "definitions")]
    pub(super) fn accounts(&self) -> impl Iterator<Item = (&Name, &Account)> {
        self.users.iter()
    }

    /// Sets the routing keys that a user may write and read on a topic exchange.
    pub(crate) fn set_topics(&mut self, user: &str, vhost: &str, exchange: &str, topics: [Pattern; 2]) -> bool {
        let key = (vhost.into(), exchange.into());
        self.users.get_mut(user).map(|account| account.topics.insert(key, topics)).is_some()
    }
}

impl Account {
    /// Returns an account without permissions.
    pub(super) fn new(password: Password, local: bool) -> Self {
        Self {
            password,
            local,
            impersonator: false,
            limits: UserLimits::default(),
            permissions: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    fn user(&self, name: &Name) -> User {
        User { name: name.clone(), impersonator: self.impersonator }
    }
}

impl Password {
    /// The password of `guest`.
    pub(crate) const GUEST: Self = Self::WellKnown("guest");

    fn is(&self, hash: Option<&Arc<str>>) -> bool {
        matches!((self, hash), (Self::Hash(current), Some(hash)) if current == hash)
    }
}

/// Returns the refusal of a login. All reasons give the same refusal, so that the client does not learn the reason.
fn refused_login(mechanism: &str) -> Refusal {
    Refusal::login(format_args!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    ))
}

/// Parses `authorization NUL name NUL password` (RFC 4616).
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, password))
}

/// Parses a field table of `LOGIN` and `PASSWORD`, without its length.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = FieldTable::parse(response).ok()?;
    let bytes = |name: &str| match table.get(name) {
        Some(Value::Str(bytes)) => Some(bytes),
        _ => None,
    };
    Some((bytes("LOGIN")?, bytes("PASSWORD")?))
}
