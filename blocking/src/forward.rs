//! Macros that forward methods to the asynchronous crate: each type here holds its counterpart there as `core`.

/// Forwards the settings of a builder, which return the builder.
macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? ($($argument:ident: $kind:ty),*);)*) => {$(
        $(#[$meta])*
        #[inline]
        pub fn $name $(<$life>)? (mut self, $($argument: $kind),*) -> Self {
            self.core = self.core.$name($($argument),*);
            self
        }
    )*};
}

/// Forwards requests, which wait for their reply.
macro_rules! requests {
    ($($(#[$meta:meta])* $name:ident ($($argument:ident: $kind:ty),*) -> $reply:ty;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, $($argument: $kind),*) -> $crate::Result<$reply> {
            ::hopmq::wait(self.core.$name($($argument),*))
        }
    )*};
}

/// Forwards getters, which need no request to the broker.
macro_rules! getters {
    ($($(#[$meta:meta])* $name:ident() -> $value:ty;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self) -> $value {
            self.core.$name()
        }
    )*};
}

pub(crate) use {getters, requests, settings};
