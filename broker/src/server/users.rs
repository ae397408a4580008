//! Users of a broker: their passwords, and what they may do (RabbitMQ's page "Access Control").
//!
//! Hashes passwords and checks them, which the engine has no time for. It must never know what a permission is for.

use std::error;
use std::fmt;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use super::Broker;
use crate::engine::{Password, Pattern};

/// Why a change of users was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserError {
    /// There is no user of that name.
    NoSuchUser(String),
    /// A pattern is no regular expression: the pattern, and what is wrong with it.
    Pattern(String, String),
    /// The password is empty, or could not be hashed.
    Password,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(name) => write!(f, "there is no user {name:?}"),
            Self::Pattern(pattern, why) => write!(f, "{pattern:?} is no regular expression: {why}"),
            Self::Password => f.write_str("a password must not be empty, and has to be hashed"),
        }
    }
}

impl error::Error for UserError {}

/// What a user may configure, write and read in a virtual host: regular expressions that match anywhere in the names of
/// queues and exchanges. An empty one matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions<'a> {
    /// Names of queues and exchanges that the user may declare and delete.
    pub configure: &'a str,
    /// Names of exchanges to publish to, and of queues and exchanges to bind.
    pub write: &'a str,
    /// Names of queues to consume, and of exchanges to bind to.
    pub read: &'a str,
}

impl Permissions<'_> {
    /// Everything.
    pub const ALL: Self = Self { configure: ".*", write: ".*", read: ".*" };
}

impl Broker {
    /// Adds a user without any permission, or gives one that there is another password. The password is kept as an
    /// argon2 hash, and each login checks it in some 20 ms of one of the broker's threads.
    ///
    /// The user `guest`, whose password is `guest`, is there from the start, and may come from this machine alone; with
    /// another password it may come from anywhere.
    ///
    /// # Errors
    /// [`UserError::Password`]
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
        let hash = hashed(password)?;
        self.change(|engine, _| {
            engine.change_access(|access| access.set_password(name, Password::Hash(hash.into()), false));
        });
        Ok(())
    }

    /// Removes a user. Connections that it has stay open, and may do nothing any more.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`]
    pub fn delete_user(&self, name: &str) -> Result<(), UserError> {
        known(name, self.change(|engine, _| engine.change_access(|access| access.remove(name))))
    }

    /// Says what a user may do in a virtual host, from now on.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`], [`UserError::Pattern`]
    pub fn set_permissions(&self, user: &str, vhost: &str, permissions: Permissions<'_>) -> Result<(), UserError> {
        let Permissions { configure, write, read } = permissions;
        let patterns = [pattern(configure)?, pattern(write)?, pattern(read)?];
        known(
            user,
            self.change(|engine, _| engine.change_access(|access| access.set_permissions(user, vhost, patterns))),
        )
    }

    /// Says by which routing keys a user may publish to a topic exchange, and bind to it, from now on. `{username}` and
    /// `{vhost}` in the patterns stand for the user's name and the virtual host's. Without a word about it, all keys are
    /// allowed.
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
        known(user, self.change(|engine, _| engine.change_access(set)))
    }

    /// Lets a user publish in the name of others (`user-id`), from its next login on, or no longer.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`]
    pub fn set_impersonator(&self, user: &str, impersonator: bool) -> Result<(), UserError> {
        let set = |access: &mut crate::engine::Access| access.set_impersonator(user, impersonator);
        known(user, self.change(|engine, _| engine.change_access(set)))
    }
}

fn known(user: &str, is_known: bool) -> Result<(), UserError> {
    if is_known { Ok(()) } else { Err(UserError::NoSuchUser(user.to_owned())) }
}

fn pattern(text: &str) -> Result<Pattern, UserError> {
    Pattern::parse(text).map_err(|error| UserError::Pattern(text.to_owned(), error.to_string()))
}

/// The hash of a password, as a PHC string.
fn hashed(password: &str) -> Result<String, UserError> {
    if password.is_empty() {
        return Err(UserError::Password);
    }
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| UserError::Password)?;
    Ok(hash.to_string())
}

/// Whether a password fits its hash.
pub(super) fn fits(password: &[u8], hash: &str) -> bool {
    let verified = argon2::PasswordHash::new(hash).map(|hash| Argon2::default().verify_password(password, &hash));
    matches!(verified, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_and_no_other() {
        let (one, two) = (hashed("one").unwrap(), hashed("one").unwrap());
        assert_ne!(one, two, "each has a salt of its own");
        assert!(fits(b"one", &one) && fits(b"one", &two));
        assert!(!fits(b"two", &one) && !fits(b"", &one) && !fits(b"one", "not a hash"));
        assert_eq!(hashed(""), Err(UserError::Password));
    }
}
