//! Why a scenario failed, and on which line.

use std::fmt::{self, Display};
use std::panic::Location;

/// How a scenario ends.
pub type Outcome<T = ()> = Result<T, Failure>;

/// An error, and the line whose `?` it came from.
pub struct Failure {
    text: String,
    at: &'static Location<'static>,
}

impl Failure {
    /// A failure of the caller's line.
    #[track_caller]
    pub fn new(text: impl Display) -> Self {
        Self { text: text.to_string(), at: Location::caller() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.at)
    }
}
