//! The failure of a scenario, with its line.

use std::fmt::{self, Display};
use std::panic::Location;

/// The result of a scenario.
pub type Outcome<T = ()> = Result<T, Failure>;

/// An error, with the line of the `?` that returned it.
pub struct Failure {
    text: String,
    at: &'static Location<'static>,
}

impl Failure {
    /// Creates a failure on the caller's line.
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
