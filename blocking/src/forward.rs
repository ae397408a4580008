//! How methods reach core: each type here holds its sibling of core as `core`.

/// Settings of a builder, which return the builder.
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

/// Requests, which wait for their answer.
macro_rules! requests {
    ($($(#[$meta:meta])* $name:ident ($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, $($argument: $kind),*) -> $crate::Result<$answer> {
            $crate::wait::wait(self.core.$name($($argument),*))
        }
    )*};
}

/// What is known without asking the broker.
macro_rules! facts {
    ($($(#[$meta:meta])* $name:ident() -> $answer:ty;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self) -> $answer {
            self.core.$name()
        }
    )*};
}

pub(crate) use {facts, requests, settings};
