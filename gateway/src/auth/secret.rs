//! Secrets in the settings, or in a file that a setting names.

use std::path::PathBuf;

use crate::config::{ConfigError, Secret};

/// HS256 needs a secret of at least 32 bytes (RFC 7518, section 3.2).
const SECRET_MIN: usize = 32;

/// Returns the secret of `setting`, or of the file that `{setting}_file` names; `None` if neither is set.
pub(super) fn read(
    setting: &str,
    secret: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<String>, ConfigError> {
    match (secret, file) {
        (Some(_), Some(_)) => {
            Err(ConfigError::invalid(setting, format!("set either this or {setting}_file, not both")))
        }
        (Some(secret), None) => Ok(Some(secret.0.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                setting: format!("{setting}_file"),
                path: path.clone(),
                error,
            })?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Checks that a secret is long enough to sign with.
pub(super) fn long_enough(setting: &str, secret: String) -> Result<String, ConfigError> {
    if secret.len() < SECRET_MIN {
        return Err(ConfigError::OutOfRange {
            setting: setting.to_owned(),
            value: format!("a secret of {} bytes", secret.len()),
            allowed: format!("at least {SECRET_MIN} bytes long, such as from `openssl rand -hex 32`"),
        });
    }
    Ok(secret)
}
