//! The settings file.

use super::error::ConfigError;
use super::settings::Config;

/// Parses the text of a settings file, which errors call `place`.
pub(super) fn parse(text: &str, place: &str) -> Result<toml::Table, ConfigError> {
    // A table has no positions, so the file is read as settings first: errors then have line numbers.
    toml::from_str::<Config>(text).map_err(|error| self::error(text, place, error))?;
    toml::from_str(text).map_err(|error| self::error(text, place, error))
}

/// Returns the error with the line and the setting, but without the text of the line, which may hold a secret.
pub(super) fn error(text: &str, place: &str, mut error: toml::de::Error) -> ConfigError {
    let line = error.span().map(|span| text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1);
    let reason = error.message().to_owned();
    // Without the text, `Display` writes the keys, to which there is no other access.
    error.set_input(None);
    let shown = error.to_string();
    let keys = shown.strip_prefix(&reason).and_then(|rest| rest.trim().strip_prefix("in `")?.strip_suffix('`'));
    ConfigError::Parse { file: place.to_owned(), line, setting: keys.map(str::to_owned), reason }
}
