//! Replacing a lost link: when to connect again, and the replay of what this connection had declared.
//!
//! A protocol connection never survives its link. The [`Driver`](crate::Driver) makes another one, by the same
//! [`Connector`](crate::Connector), and what this connection had declared is replayed on it, so that handles, consumers
//! and publishers go on.
//!
//! - `backoff`: when to connect again.
//! - `replay`: declarations go out on a fresh link, until it carries all that the lost one did.
//!
//! It runs under the lock of [`Shared`](crate::state::Shared), driven by events and the time.

pub(crate) mod backoff;
pub(crate) mod replay;
