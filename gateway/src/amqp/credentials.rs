//! The user names in a login that RabbitMQ will check.

use hopmq_proto::{FieldTable, Value};

use crate::auth::error::AuthError;

/// Returns the user names of a login, in the order in which a broker may read them.
///
/// # Errors
/// [`AuthError::UserUnknown`] if the mechanism or the response shows no name.
pub(crate) fn user_names<'a>(mechanism: &str, response: &'a [u8]) -> Result<Vec<&'a [u8]>, AuthError> {
    let names: Vec<&[u8]> = match mechanism {
        "PLAIN" => response.split(|byte| *byte == 0).skip(1).take(1).collect(),
        // A name may be sent twice, and brokers differ in which one they take.
        "AMQPLAIN" => FieldTable::parse(response)
            .iter()
            .flat_map(FieldTable::iter)
            .filter(|(key, _)| *key == "LOGIN")
            .filter_map(|(_, value)| if let Value::Str(name) = value { Some(name) } else { None })
            .collect(),
        // The gateway has no certificate of a client.
        "EXTERNAL" => return Ok(Vec::new()),
        _ => Vec::new(),
    };
    if names.is_empty() { Err(AuthError::UserUnknown { mechanism: mechanism.to_owned() }) } else { Ok(names) }
}

/// Checks the login of a page on another machine: none of `loopback_users` may log in, as RabbitMQ, which sees only the
/// gateway's own address, would refuse it otherwise.
///
/// # Errors
/// [`AuthError`] if such a user, or one that can't be known, logs in.
pub(crate) fn check_remote(loopback_users: &[String], mechanism: &str, response: &[u8]) -> Result<(), AuthError> {
    if loopback_users.is_empty() {
        return Ok(());
    }
    let names = user_names(mechanism, response)?;
    match loopback_users.iter().find(|user| names.contains(&user.as_bytes())) {
        Some(user) => Err(AuthError::LoopbackUser { user: user.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mechanism: &str, response: &[u8]) -> Result<(), AuthError> {
        check_remote(&["guest".to_owned()], mechanism, response)
    }

    #[test]
    fn guest_is_found_in_every_mechanism() {
        let guest = || Err(AuthError::LoopbackUser { user: "guest".to_owned() });
        assert_eq!(check("PLAIN", b"\0guest\0guest"), guest());
        assert_eq!(check("PLAIN", b"someone\0guest\0guest"), guest());
        assert_eq!(check("PLAIN", b"\0alice\0guest"), Ok(()));
        let table = |names: &[&str]| {
            let mut bytes = Vec::new();
            for name in names {
                bytes.extend_from_slice(FieldTable::new().with("LOGIN", *name).as_bytes());
            }
            bytes.extend_from_slice(FieldTable::new().with("PASSWORD", "guest").as_bytes());
            bytes
        };
        assert_eq!(check("AMQPLAIN", &table(&["guest"])), guest());
        assert_eq!(check("AMQPLAIN", &table(&["alice", "guest"])), guest());
        assert_eq!(check("AMQPLAIN", &table(&["guest", "alice"])), guest());
        assert_eq!(check("AMQPLAIN", &table(&["alice"])), Ok(()));
        assert_eq!(check("EXTERNAL", b""), Ok(()));
        // RabbitMQ 4 lets ANONYMOUS in as guest by default.
        for (mechanism, response) in [("ANONYMOUS", &b""[..]), ("PLAIN", b"guest"), ("AMQPLAIN", b"\x05LOGIN")] {
            let unknown = Err(AuthError::UserUnknown { mechanism: mechanism.to_owned() });
            assert_eq!(check(mechanism, response), unknown);
        }
        assert_eq!(check_remote(&[], "PLAIN", b"\0guest\0guest"), Ok(()));
    }
}
