//! The attacks, one kind a module.

pub mod connections;
pub mod consumers;
pub mod corruption;
pub mod dead_letters;
pub mod deletes;
pub mod fan_out;
pub mod gateway;
pub mod logins;
pub mod memory;
pub mod purge;
pub mod requeues;
pub mod routing;
pub mod transactions;
