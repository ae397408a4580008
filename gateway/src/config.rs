//! The settings: what there is to set, what it is if nobody sets it, and what can't be.
//!
//! They come from a TOML file and from the environment, which has the last word (`environment.rs`). A wrong one is an
//! error that names the key and says what is allowed. README.md explains each key; a test holds the two together.

mod check;
mod environment;
mod error;
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
    /// Reads the settings: those of `file`, then those of `environment` (`HOPMQ_GATEWAY_…`), then the defaults.
    ///
    /// # Errors
    /// If the file can't be read, a key is unknown, or a value can't be what it is.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?,
            None => String::new(),
        };
        let place = file.map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
        Self::read(&text, &place, environment)
    }

    /// The same, with the file's text; `place` is what errors call it.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn read(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Once by itself, for the line numbers in the errors.
        let _: Self = toml::from_str(text).map_err(|error| ConfigError(format!("{place}: {error}")))?;
        let mut table: toml::Table = toml::from_str(text).map_err(|error| ConfigError(format!("{place}: {error}")))?;
        environment::overlay(&mut table, environment)?;
        let config: Self = table.try_into().map_err(|error| ConfigError(format!("{place}: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// Looks for settings that can't be used although they can be written.
    ///
    /// # Errors
    /// The first that is found, with its key and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::check(self)
    }
}
