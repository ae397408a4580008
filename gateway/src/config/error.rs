//! Errors of the settings.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A setting that cannot be used.
///
/// The text names the setting or the file, the line if it is known, the reason, and what to write instead. The reason
/// is part of the text, so `source()` returns `None`. No variant holds a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    Unreadable {
        /// The setting that names the file; `config` for the settings file itself.
        setting: String,
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file was read, but its content cannot be used.
    File {
        /// The setting that names the file.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        reason: String,
    },
    /// The settings file is not TOML, has an unknown key, or has a value of the wrong type.
    Parse {
        /// The settings file.
        file: String,
        /// The line, counted from 1.
        line: Option<usize>,
        /// The setting, such as `limits.frame_max`.
        setting: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// An environment variable has the prefix `HOPMQ_GATEWAY_`, but names no setting.
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variables that exist.
        known: Vec<String>,
    },
    /// An environment variable has a value that its setting cannot have.
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// A number, size or time is too small or too large.
    OutOfRange {
        /// The setting.
        setting: String,
        /// The value, with its unit.
        value: String,
        /// The values that are allowed, such as `at least 4096B`.
        allowed: String,
    },
    /// A required setting is missing.
    Missing {
        /// The setting.
        setting: String,
        /// What to set.
        advice: String,
    },
    /// A setting has a value that cannot be used, or that contradicts another setting.
    Invalid {
        /// The setting.
        setting: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// TLS cannot be set up.
    Tls {
        /// The reason.
        reason: String,
    },
}

impl ConfigError {
    pub(crate) fn missing(setting: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Missing { setting: setting.into(), advice: advice.into() }
    }

    pub(crate) fn invalid(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { setting: setting.into(), reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { setting, path, error } => {
                write!(f, "{setting}: cannot read {}: {error}", path.display())
            }
            Self::File { setting, path, reason } => write!(f, "{setting}: cannot use {}: {reason}", path.display()),
            Self::Parse { file, line, setting, reason } => {
                f.write_str(file)?;
                if let Some(line) = line {
                    write!(f, ", line {line}")?;
                }
                if let Some(setting) = setting {
                    write!(f, ": {setting}")?;
                }
                write!(f, ": {reason}")
            }
            Self::UnknownVariable { name, known } => {
                write!(f, "{name} is not a setting; the settings are {}", known.join(", "))
            }
            Self::Variable { name, reason } => write!(f, "{name}: {reason}"),
            Self::OutOfRange { setting, value, allowed } => {
                write!(f, "{setting}: {value} is out of range; it must be {allowed}")
            }
            Self::Missing { setting, advice } => write!(f, "{setting} is not set; {advice}"),
            Self::Invalid { setting, reason } => write!(f, "{setting}: {reason}"),
            Self::Tls { reason } => write!(f, "cannot set up TLS: {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}
