//! Who may do what: the one place that is asked before an operation.
//!
//! Owns the users. It must never know what the operation does.

use hopmq_proto::FieldTable;
use hopmq_proto::Value;

use super::exchange::Name;
use super::refusal::Refusal;

/// What a user wants to do with a queue or an exchange (RabbitMQ's page "Access Control").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Configure,
    Write,
    Read,
}

/// What it is to be done with.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the one user there is may do everything with all of them")]
pub(crate) enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Name,
    /// Whether it may publish in the name of others.
    pub(crate) impersonator: bool,
}

/// What became of a login.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    In(User),
    Refused(Refusal),
    /// The mechanism is not one that was offered.
    Unknown,
}

/// The users and what they may do: `guest` with the password `guest`, who may do everything.
#[derive(Debug, Default)]
pub(crate) struct Access;

/// The mechanisms that are offered.
pub(crate) const MECHANISMS: &str = "PLAIN AMQPLAIN";

impl Access {
    /// Lets somebody in, or not.
    pub(crate) fn login(&self, mechanism: &str, response: &[u8]) -> Login {
        let credentials = match mechanism {
            "PLAIN" => plain(response),
            "AMQPLAIN" => amqplain(response),
            _ => return Login::Unknown,
        };
        match credentials {
            Some((name, password)) if name == b"guest" && password == b"guest" => {
                Login::In(User { name: "guest".into(), impersonator: false })
            }
            _ => Login::Refused(refused_login(mechanism)),
        }
    }

    /// Whether somebody may open a virtual host that exists.
    pub(crate) fn may_open(&self, _user: &User, _vhost: &str) -> bool {
        true
    }

    /// Whether somebody may do what they want.
    pub(crate) fn check(
        &self,
        _user: &User,
        _vhost: &str,
        _permission: Permission,
        _resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What somebody hears who is not let in.
pub(super) fn refused_login(mechanism: &str) -> Refusal {
    Refusal::login(format_args!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    ))
}

/// `authorization NUL name NUL password` (RFC 4616).
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, password))
}

/// A field table of `LOGIN` and `PASSWORD`, without its length.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = FieldTable::parse(response).ok()?;
    let bytes = |name: &str| match table.get(name) {
        Some(Value::Str(bytes)) => Some(bytes),
        _ => None,
    };
    Some((bytes("LOGIN")?, bytes("PASSWORD")?))
}
