//! The two versions of an item from `#[scenario]` or `#[either]`, of which each client API chooses one.

/// Chooses the async version.
#[macro_export]
macro_rules! choose_async {
    ({ $($async:tt)* } { $($blocking:tt)* }) => { $($async)* };
}

/// Chooses the version without `async` and `.await`.
#[macro_export]
macro_rules! choose_blocking {
    ({ $($async:tt)* } { $($blocking:tt)* }) => { $($blocking)* };
}
