//! What the code of the macros calls to check a handler's arguments and result, one at a time.
//!
//! Nothing here runs: a call that compiles is the check.

use crate::extract::{FromDelivery, FromRef};
use crate::outcome::{Classify, IntoVerdict};

/// A state that has every part: the state of a handler whose attribute names none.
#[derive(Debug)]
pub enum AnyState {}

impl<T> FromRef<AnyState> for T {
    fn from_ref(state: &AnyState) -> Self {
        match *state {}
    }
}

/// An argument of a handler.
pub const fn argument<T: FromDelivery<S>, S>() {}

/// The result of a handler.
pub const fn outcome<T: IntoVerdict>() {}

/// The error of a handler's `Result`.
pub const fn error<E: Classify>() {}
