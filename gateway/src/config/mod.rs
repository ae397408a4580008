//! The settings: a TOML file, overridden by environment variables, checked before use.
//!
//! Each error names the setting and says what is allowed. README.md explains every key; a test compares its table with
//! the defaults.

mod check;
mod environment;
mod error;
mod file;
pub(crate) mod origin;
mod settings;
#[cfg(test)]
mod tests;
mod units;

use std::path::Path;

pub use error::ConfigError;
pub use settings::{
    Auth, Config, Drain, Jwt, Limits, Log, LogFormat, Origin, Policy, Proxy, ProxyHeader, Route, RouteKeys, Ticket,
    Upstream, WebSocket,
};
pub use units::{Secret, Size, Time};

impl Config {
    /// Reads the settings from the file and from the environment variables `HOPMQ_GATEWAY_…`, which override the file.
    /// Settings in neither have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, a key is unknown, or a value cannot be used.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Self::read("", "settings", environment) };
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            setting: "config".to_owned(),
            path: path.to_owned(),
            error,
        })?;
        Self::read(&text, &path.display().to_string(), environment)
    }

    /// Reads the settings from the text of a file and from environment variables, which override the file. Errors call
    /// the file `place`.
    ///
    /// # Errors
    /// [`ConfigError`] if a key is unknown or a value cannot be used.
    pub fn read(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = file::parse(text, place)?;
        environment::overlay(&mut table, environment)?;
        let config: Self = table.try_into().map_err(|error| file::error(text, place, error))?;
        config.check()?;
        Ok(config)
    }

    /// Checks the rules that the types of the settings do not express.
    ///
    /// # Errors
    /// [`ConfigError`] of the first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::check(self)
    }
}
