//! What each door says to `#[scenario]` and `#[either]`.

/// The text as it is written.
#[macro_export]
macro_rules! choose_async {
    ({ $($async:tt)* } { $($blocking:tt)* }) => { $($async)* };
}

/// The text without `async` and `.await`.
#[macro_export]
macro_rules! choose_blocking {
    ({ $($async:tt)* } { $($blocking:tt)* }) => { $($blocking)* };
}
