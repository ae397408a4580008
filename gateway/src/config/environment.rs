//! Settings from the environment: `HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT=5s` is `login_timeout` of `[limits]`.

use toml::{Table, Value};

use super::error::ConfigError;
use super::settings::Config;

const PREFIX: &str = "HOPMQ_GATEWAY_";

/// How the text of a variable is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Truth,
    /// Entries separated by commas.
    List,
    /// A part of a table, which only the file can hold.
    FileOnly,
}

/// All keys with their sections.
#[rustfmt::skip]
pub(super) const KEYS: &[(&str, &str, Kind)] = &[
    ("", "listen", Kind::Text),
    ("", "admin", Kind::Text),
    ("", "static", Kind::Text),
    ("log", "level", Kind::Text),
    ("log", "format", Kind::Text),
    ("upstream", "hosts", Kind::List),
    ("upstream", "connect_timeout", Kind::Text),
    ("upstream", "check_interval", Kind::Text),
    ("upstream", "ca_file", Kind::Text),
    ("upstream", "proxy_protocol", Kind::Truth),
    ("origin", "allow", Kind::List),
    ("origin", "require", Kind::Truth),
    ("origin", "hosts", Kind::List),
    ("proxy", "trusted", Kind::List),
    ("proxy", "header", Kind::Text),
    ("websocket", "subprotocols", Kind::List),
    ("websocket", "ping_interval", Kind::Text),
    ("websocket", "ping_timeout", Kind::Text),
    ("websocket", "stall_timeout", Kind::Text),
    ("websocket", "message_max", Kind::Text),
    ("websocket", "close_timeout", Kind::Text),
    ("limits", "login_timeout", Kind::Text),
    ("limits", "login_frame_max", Kind::Text),
    ("limits", "frame_max", Kind::Text),
    ("limits", "channels", Kind::Number),
    ("limits", "connections", Kind::Number),
    ("limits", "connections_per_address", Kind::Number),
    ("limits", "connections_per_user", Kind::Number),
    ("limits", "pending_logins", Kind::Number),
    ("limits", "pending_logins_per_address", Kind::Number),
    ("limits", "upgrades_per_minute", Kind::Number),
    ("limits", "refused_logins_per_minute", Kind::Number),
    ("limits", "messages_per_second", Kind::Number),
    ("limits", "bytes_per_second", Kind::Text),
    ("limits", "temporary_queues", Kind::Number),
    ("drain", "spread", Kind::Text),
    ("drain", "deadline", Kind::Text),
    ("auth", "loopback_users", Kind::List),
    ("auth.jwt", "secret", Kind::Text),
    ("auth.jwt", "secret_file", Kind::Text),
    ("auth.jwt", "jwks_file", Kind::Text),
    ("auth.jwt", "jwks_url", Kind::Text),
    ("auth.jwt", "algorithms", Kind::List),
    ("auth.jwt", "issuer", Kind::Text),
    ("auth.jwt", "audience", Kind::Text),
    ("auth.jwt", "leeway", Kind::Text),
    ("auth.ticket", "secret", Kind::Text),
    ("auth.ticket", "secret_file", Kind::Text),
    ("auth.ticket", "max_age", Kind::Text),
    ("auth.ticket", "parameter", Kind::Text),
    ("auth.policy", "when", Kind::FileOnly),
    ("auth.policy", "username", Kind::FileOnly),
    ("auth.policy", "password", Kind::FileOnly),
    ("auth.policy", "password_file", Kind::FileOnly),
    ("auth.policy", "vhost", Kind::FileOnly),
    ("auth.policy", "publish", Kind::FileOnly),
    ("auth.policy", "consume", Kind::FileOnly),
    ("auth.policy", "queues", Kind::FileOnly),
    ("auth.policy", "exchanges", Kind::FileOnly),
    ("auth.policy", "bind", Kind::FileOnly),
    ("auth.policy", "temporary_queues", Kind::FileOnly),
    ("auth.policy", "message_max", Kind::FileOnly),
    ("auth.policy", "messages_per_second", Kind::FileOnly),
    ("auth.policy", "bytes_per_second", Kind::FileOnly),
];

/// Returns the variable of a key.
pub(super) fn variable(section: &str, key: &str) -> String {
    let path = if section.is_empty() { key.to_owned() } else { format!("{section}_{key}") };
    PREFIX.to_owned() + &path.replace('.', "_").to_uppercase()
}

/// Returns all variables.
pub(super) fn variables() -> impl Iterator<Item = String> {
    KEYS.iter().filter(|(.., kind)| *kind != Kind::FileOnly).map(|(section, key, _)| variable(section, key))
}

/// Overrides the settings of the file with the variables that begin with `HOPMQ_GATEWAY_`. `HOPMQ_GATEWAY_CONFIG` is
/// skipped: it names the file.
///
/// Each variable is checked by itself, so that the error names the variable and not the file.
pub(super) fn overlay(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    for (name, text) in environment {
        if !name.starts_with(PREFIX) || name == "HOPMQ_GATEWAY_CONFIG" {
            continue;
        }
        let setting =
            KEYS.iter().find(|(section, key, kind)| *kind != Kind::FileOnly && variable(section, key) == name);
        let Some((section, key, kind)) = setting else {
            return Err(ConfigError::UnknownVariable { name, known: variables().collect() });
        };
        insert(table, section, key, value(*kind, &name, text)?)?;
        if let Err(error) = table.clone().try_into::<Config>() {
            return Err(ConfigError::Variable { name, reason: error.message().to_owned() });
        }
    }
    Ok(())
}

fn value(kind: Kind, name: &str, text: String) -> Result<Value, ConfigError> {
    let wrong = |reason: String| ConfigError::Variable { name: name.to_owned(), reason };
    Ok(match kind {
        Kind::Text | Kind::FileOnly => Value::String(text),
        Kind::Number => Value::Integer(text.parse().map_err(|_| wrong(format!("`{text}` is not a whole number")))?),
        Kind::Truth => Value::Boolean(text.parse().map_err(|_| wrong(format!("`{text}` is neither true nor false")))?),
        Kind::List => {
            let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            Value::Array(entries.map(|entry| Value::String(entry.to_owned())).collect())
        }
    })
}

fn insert(table: &mut Table, section: &str, key: &str, value: Value) -> Result<(), ConfigError> {
    let mut inner = table;
    for name in section.split('.').filter(|name| !name.is_empty()) {
        inner = match inner.entry(name).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(section) => section,
            _ => return Err(ConfigError::invalid(section, "this is a section and cannot have a value")),
        };
    }
    inner.insert(key.to_owned(), value);
    Ok(())
}
