//! What outlives the process: how the engine writes its state to the store and reads it back.

mod accounts;
pub(super) mod journal;
pub(super) mod paging;
#[cfg(feature = "testing")]
mod restart;
mod restore;
pub(super) mod tables;
mod unreadable;
