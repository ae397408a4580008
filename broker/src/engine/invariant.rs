//! Invariants of the engine: what is missing only because of a bug in it.

/// Takes what must be there.
pub(crate) trait Invariant: Sized {
    /// Returns the option as it is. `None` breaks an invariant: it panics in debug builds, and logs an error in release
    /// builds, where the caller then leaves the operation out. `what` names what is missing.
    ///
    /// Only for what no peer and no stored data can bring about.
    #[track_caller]
    fn invariant(self, what: &'static str) -> Self;
}

impl<T> Invariant for Option<T> {
    #[inline]
    #[track_caller]
    fn invariant(self, what: &'static str) -> Self {
        if self.is_none() {
            broken(what);
        }
        self
    }
}

#[cold]
#[track_caller]
fn broken(what: &'static str) {
    let place = std::panic::Location::caller();
    tracing::error!(%place, "broken invariant: no {what}; skipped an operation; please report this as a bug");
    debug_assert!(false, "broken invariant at {place}: no {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_passes_an_invariant() {
        assert_eq!(Some(1).invariant("number"), Some(1));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "no number")]
    fn a_broken_invariant_panics_in_a_debug_build() {
        let _ = None::<u8>.invariant("number");
    }
}
