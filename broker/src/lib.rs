#![doc = include_str!("../README.md")]

mod engine;
pub mod inspect;
mod server;
pub mod store;

pub use server::{Broker, Builder, Clock, Inspect, Period, Pipe};
