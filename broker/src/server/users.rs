//! Users of a broker: their passwords and permissions (RabbitMQ's page "Access Control").
//!
//! Hashes and verifies passwords, which is too slow for the engine. It must never know what a permission is for.

use std::error;
use std::fmt;
use std::future::pending;
use std::sync::OnceLock;
use std::thread;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use async_executor::{Executor, Task};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::Broker;
use crate::engine::{Claim, Password, Pattern};

/// Why a change of users was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserError {
    /// There is no user of this name.
    NoSuchUser(String),
    /// A pattern is no regular expression. Holds the pattern and the error in it.
    Pattern(String, String),
    /// A user name is empty, or longer than 255 bytes.
    Name,
    /// The password is empty, or can't be hashed.
    Password,
    /// The hash is neither argon2's nor RabbitMQ's.
    Hash,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(name) => write!(f, "no user {name:?}"),
            Self::Pattern(pattern, why) => write!(f, "{pattern:?} is not a regular expression: {why}"),
            Self::Name => f.write_str("a user name must have 1 to 255 bytes"),
            Self::Hash => f.write_str("the password hash is neither an argon2 PHC string nor RabbitMQ's base64"),
            Self::Password => f.write_str("the password is empty, or can't be hashed"),
        }
    }
}

impl error::Error for UserError {}

/// A user's permissions in a virtual host: regular expressions that match anywhere in the names of queues and
/// exchanges. An empty one matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions<'a> {
    /// Queues and exchanges that the user may declare and delete.
    pub configure: &'a str,
    /// Exchanges that the user may publish to, and queues and exchanges that it may bind.
    pub write: &'a str,
    /// Queues that the user may consume from, and exchanges that it may bind to.
    pub read: &'a str,
}

impl Permissions<'_> {
    /// All permissions.
    pub const ALL: Self = Self { configure: ".*", write: ".*", read: ".*" };
}

impl Broker {
    /// Adds a user without permissions, or changes the password of an existing one. The password is kept as an argon2
    /// hash, in the store if there is one. A login verifies it in about 20 ms, on threads of their own; a broker
    /// without a store, as in a test, uses a hash that takes microseconds.
    ///
    /// The user `guest` with the password `guest` is predeclared, and may log in from this machine only; with another
    /// password, from anywhere.
    ///
    /// # Errors
    /// [`UserError::Name`], [`UserError::Password`]
    ///
    /// ```
    /// use hopmq_broker::{Broker, Permissions};
    ///
    /// let broker = Broker::in_memory();
    /// broker.add_user("orders", "pa55")?;
    /// broker.set_permissions("orders", "/", Permissions { configure: "", write: "^orders$", read: "" })?;
    /// broker.delete_user("guest")?;
    /// # Ok::<(), hopmq_broker::UserError>(())
    /// ```
    pub fn add_user(&self, name: &str, password: &str) -> Result<(), UserError> {
        check_name(name)?;
        let hash = hashed(password, self.cost())?;
        self.change(|engine, _| {
            engine.change_access(name, |access| access.set_password(name, Password::Hash(hash.into()), false));
        });
        Ok(())
    }

    /// Adds a user as [`Broker::add_user`] does, with a hashed password: an argon2 hash as a PHC string, or a
    /// `password_hash` of RabbitMQ's definitions, the base64 of four octets of salt and the SHA-256 of salt and
    /// password.
    ///
    /// ```
    /// # let broker = hopmq_broker::Broker::in_memory();
    /// broker.add_user_with_hash("orders", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")?;
    /// # Ok::<(), hopmq_broker::UserError>(())
    /// ```
    ///
    /// # Errors
    /// [`UserError::Name`], and [`UserError::Hash`] if it is neither.
    pub fn add_user_with_hash(&self, name: &str, hash: &str) -> Result<(), UserError> {
        check_name(name)?;
        if argon2::PasswordHash::new(hash).is_err() && rabbitmqs(hash).is_none() {
            return Err(UserError::Hash);
        }
        let password = Password::Hash(hash.into());
        self.change(|engine, _| engine.change_access(name, |access| access.set_password(name, password, false)));
        Ok(())
    }

    /// Removes a user. Its open connections stay open, without any permission.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`]
    pub fn delete_user(&self, name: &str) -> Result<(), UserError> {
        known(name, self.change(|engine, _| engine.change_access(name, |access| access.remove(name))))
    }

    /// Sets a user's permissions in a virtual host, from now on.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`], [`UserError::Pattern`]
    pub fn set_permissions(&self, user: &str, vhost: &str, permissions: Permissions<'_>) -> Result<(), UserError> {
        let Permissions { configure, write, read } = permissions;
        let patterns = [pattern(configure)?, pattern(write)?, pattern(read)?];
        known(
            user,
            self.change(|engine, _| engine.change_access(user, |access| access.set_permissions(user, vhost, patterns))),
        )
    }

    /// Sets the routing keys that a user may publish with to a topic exchange, and bind to it with, from now on.
    /// `{username}` and `{vhost}` in the patterns stand for the names of the user and the virtual host. By default, all
    /// keys are allowed.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`], [`UserError::Pattern`]
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> Result<(), UserError> {
        let filled = |text: &str| {
            let text = text.replace("{username}", &regex_lite::escape(user));
            pattern(&text.replace("{vhost}", &regex_lite::escape(vhost)))
        };
        let topics = [filled(write)?, filled(read)?];
        let set = |access: &mut crate::engine::Access| access.set_topics(user, vhost, exchange, topics);
        known(user, self.change(|engine, _| engine.change_access(user, set)))
    }

    /// Sets whether a user may publish in the name of others (`user-id`), from its next login on.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`]
    pub fn set_impersonator(&self, user: &str, impersonator: bool) -> Result<(), UserError> {
        let set = |access: &mut crate::engine::Access| access.set_impersonator(user, impersonator);
        known(user, self.change(|engine, _| engine.change_access(user, set)))
    }
}

fn known(user: &str, is_known: bool) -> Result<(), UserError> {
    if is_known { Ok(()) } else { Err(UserError::NoSuchUser(user.to_owned())) }
}

fn pattern(text: &str) -> Result<Pattern, UserError> {
    Pattern::parse(text).map_err(|error| UserError::Pattern(text.to_owned(), error.to_string()))
}

fn check_name(name: &str) -> Result<(), UserError> {
    if name.is_empty() || name.len() > 255 { Err(UserError::Name) } else { Ok(()) }
}

/// Returns the hash function for a cost.
fn argon2(cost: Cost) -> Argon2<'static> {
    match cost {
        Cost::Full => Argon2::default(),
        Cost::Least => {
            let least = Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, None);
            Argon2::new(Algorithm::Argon2id, Version::V0x13, least.unwrap_or_default())
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    Full,
    /// For a test, whose passwords are no secrets.
    Least,
}

impl Broker {
    fn cost(&self) -> Cost {
        if self.0.shared.lock().store.is_some() { Cost::Full } else { Cost::Least }
    }
}

/// Returns the hash of a password, as a PHC string.
fn hashed(password: &str, cost: Cost) -> Result<String, UserError> {
    if password.is_empty() {
        return Err(UserError::Password);
    }
    let hash = argon2(cost).hash_password(password.as_bytes()).map_err(|_| UserError::Password)?;
    Ok(hash.to_string())
}

/// Returns the salt and the SHA-256 of RabbitMQ's hash.
fn rabbitmqs(hash: &str) -> Option<([u8; 4], [u8; 32])> {
    let bytes = BASE64_STANDARD.decode(hash).ok()?;
    let (salt, hash) = bytes.split_first_chunk()?;
    Some((*salt, hash.try_into().ok()?))
}

/// Whether a password matches its hash. Takes as long as the hash demands.
pub(super) fn fits(password: &[u8], hash: &str) -> bool {
    if let Some((salt, hash)) = rabbitmqs(hash) {
        let own = Sha256::new().chain_update(salt).chain_update(password).finalize();
        // All bytes are compared, so that the time says nothing about the first difference.
        return own.iter().zip(hash).fold(0, |difference, (own, other)| difference | (own ^ other)) == 0;
    }
    let verified = argon2::PasswordHash::new(hash).map(|hash| Argon2::default().verify_password(password, &hash));
    matches!(verified, Ok(Ok(())))
}

/// Returns RabbitMQ's hash of a publicly known password. Its salt is constant.
#[cfg(feature = "definitions")]
pub(super) fn public_hash(password: &[u8]) -> String {
    let salt = *b"open";
    let hash = Sha256::new().chain_update(salt).chain_update(password).finalize();
    BASE64_STANDARD.encode([&salt[..], &hash[..]].concat())
}

/// Verifies a password as [`fits`] does, on threads of their own: as many at once as there are processors, so that a
/// flood of logins takes no more memory than that, and delays other logins only. Dropping the task cancels it.
pub(super) fn check(claim: Claim) -> Task<bool> {
    static EXECUTOR: Executor<'static> = Executor::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..count {
            let thread = thread::Builder::new().name(format!("hopmq-logins-{number}"));
            // One thread is enough, and others may exist.
            let _ = thread.spawn(|| async_io::block_on(EXECUTOR.run(pending::<()>())));
        }
    });
    EXECUTOR.spawn(async move { fits(&claim.password, &claim.hash) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let one = hashed("one", Cost::Least).unwrap();
        let two = hashed("one", Cost::Full).unwrap();
        assert_ne!(one, two, "each has a salt of its own");
        assert!(fits(b"one", &one) && fits(b"one", &two));
        assert!(!fits(b"two", &one) && !fits(b"", &one) && !fits(b"one", "not a hash"));
        assert_eq!(hashed("", Cost::Full), Err(UserError::Password));
    }

    #[test]
    fn a_hash_in_rabbitmqs_format_matches_its_password() {
        // The example on RabbitMQ's page "Passwords".
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert!(fits(b"test12", hash) && !fits(b"test13", hash) && !fits(b"", hash));
    }
}
