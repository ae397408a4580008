//! Secrets from the settings or from a file that they name.

use std::path::PathBuf;

use crate::config::{ConfigError, Secret};

/// The secret of `key`, which is written there or in the file of `key_file`; `None` if neither is set.
pub(super) fn read(key: &str, secret: Option<&Secret>, file: Option<&PathBuf>) -> Result<Option<String>, ConfigError> {
    match (secret, file) {
        (Some(_), Some(_)) => Err(ConfigError(format!("{key}: set it or {key}_file, not both"))),
        (Some(secret), None) => Ok(Some(secret.0.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("{key}_file: cannot read {}: {error}", path.display())))?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// A secret that signs: as long as what it protects needs (RFC 7518, section 3.2).
pub(super) fn long_enough(key: &str, secret: String) -> Result<String, ConfigError> {
    if secret.len() < 32 {
        return Err(ConfigError(format!("{key}: at least 32 bytes are needed, such as of `openssl rand -hex 32`")));
    }
    Ok(secret)
}
