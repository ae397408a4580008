//! Users of a broker: their passwords and permissions (RabbitMQ's page "Access Control").
//!
//! It must never know what a permission is for.

use std::error;
use std::fmt;

use super::Broker;
use super::passwords::{Cost, MOST_KINDS, hashed, is_argon2, is_hash};
use crate::engine::{Password, Pattern};

/// Why a change of users was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserError {
    /// There is no user of this name.
    NoSuchUser(String),
    /// There is no virtual host of this name.
    NoSuchVhost(String),
    /// A pattern is no regular expression. Holds the pattern and the error in it.
    Pattern(String, String),
    /// A user name is empty, or longer than 255 bytes.
    Name,
    /// The password is empty, or can't be hashed.
    Password,
    /// The hash is neither argon2's nor RabbitMQ's, or it costs too much.
    Hash,
    /// The users' argon2 hashes would have more than four different parameters.
    HashKinds,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(name) => write!(f, "no user {name:?}"),
            Self::NoSuchVhost(name) => write!(f, "no virtual host {name:?}"),
            Self::Pattern(pattern, why) => write!(f, "{pattern:?} is not a regular expression: {why}"),
            Self::Name => f.write_str("a user name must have 1 to 255 bytes"),
            Self::Hash => f.write_str(
                "the password hash is neither an argon2 PHC string, of at most m=65536 and m times t of 262144, nor \
                 RabbitMQ's base64",
            ),
            Self::HashKinds => f.write_str(
                "the argon2 hashes of all users may have four different parameters at most, for each login computes \
                 all of them; set a password instead",
            ),
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
    /// hash, in the store if there is one. A login verifies it in about 5 ms, on threads of their own; a broker
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
        let hash = hashed(password, self.cost()).ok_or(UserError::Password)?;
        self.change(|engine, _| {
            engine.change_access(name, |access| access.set_password(name, Password::Hash(hash.into()), false));
        });
        Ok(())
    }

    /// Adds a user as [`Broker::add_user`] does, with a hashed password: an argon2 hash as a PHC string, or a
    /// `password_hash` of RabbitMQ's definitions, the base64 of four octets of salt and the SHA-256 or SHA-512 of salt
    /// and password. The empty hash is no password: the user can't log in with any.
    ///
    /// An argon2 hash may take 64 MiB at most, and memory times passes 256 MiB. While a user has one, every login
    /// computes a hash with its parameters, so that the time of a login does not tell which hash a user has. There may
    /// be four different parameters.
    ///
    /// ```
    /// # let broker = hopmq_broker::Broker::in_memory();
    /// broker.add_user_with_hash("orders", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")?;
    /// # Ok::<(), hopmq_broker::UserError>(())
    /// ```
    ///
    /// # Errors
    /// [`UserError::Name`], [`UserError::Hash`] if it is neither or costs too much, [`UserError::HashKinds`]
    pub fn add_user_with_hash(&self, name: &str, hash: &str) -> Result<(), UserError> {
        check_name(name)?;
        if !hash.is_empty() && !is_hash(hash) {
            return Err(UserError::Hash);
        }
        if is_argon2(hash) && self.0.shared.lock().engine.count_kinds_with(hash) > MOST_KINDS {
            return Err(UserError::HashKinds);
        }
        let password = if hash.is_empty() { Password::None } else { Password::Hash(hash.into()) };
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

    /// Whether `guest` can log in with its predeclared password, from this machine: neither it nor its password was
    /// changed, and no imported definitions brought other users.
    pub fn has_default_user(&self) -> bool {
        self.0.shared.lock().engine.has_default_user()
    }

    /// Sets a user's permissions in a virtual host, from now on.
    ///
    /// # Errors
    /// [`UserError::NoSuchUser`], [`UserError::NoSuchVhost`], [`UserError::Pattern`]
    pub fn set_permissions(&self, user: &str, vhost: &str, permissions: Permissions<'_>) -> Result<(), UserError> {
        let Permissions { configure, write, read } = permissions;
        let patterns = [pattern(configure)?, pattern(write)?, pattern(read)?];
        self.check_vhost(vhost)?;
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
    /// [`UserError::NoSuchUser`], [`UserError::NoSuchVhost`], [`UserError::Pattern`]
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
        self.check_vhost(vhost)?;
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

impl Broker {
    fn check_vhost(&self, vhost: &str) -> Result<(), UserError> {
        match self.0.shared.lock().engine.has_vhost(vhost) {
            true => Ok(()),
            false => Err(UserError::NoSuchVhost(vhost.to_owned())),
        }
    }

    fn cost(&self) -> Cost {
        self.0.shared.lock().hash_cost()
    }
}
