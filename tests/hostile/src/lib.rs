//! Attacks on broker and gateway, each beside a well-behaved client.
//!
//! Owns the attackers and the [`Neighbour`], a client that publishes at a steady pace, awaits each confirm and
//! consumes. A [`Target`] comes in: the program `hopmq-broker` in a process of its own, in memory or with a folder, or
//! the broker in this process, which counts its work; some attacks go through the program `hopmq-gateway`. A [`Row`]
//! goes out: the neighbour's latencies, the broker's work and its memory. The attackers write frames themselves and
//! must never know what the broker is made of.
//!
//! `cargo test` plays the [`FAMILY`] in small sizes, and judges by counts. The program of this crate, which `cargo
//! xtask soak` runs, plays it in full sizes, judges by the neighbour's latencies, and prints the table.

pub mod attacks;
mod family;
mod gateway;
mod neighbour;
mod play;
mod programs;
mod row;
mod stage;
mod target;
mod websocket;
mod wire;

use std::error::Error;

pub use family::{Attack, FAMILY};
pub use gateway::Gateway;
pub use neighbour::{Neighbour, Report};
pub use play::{Mode, Setting, play};
pub use programs::{Program, Scratch, resident};
pub use row::Row;
pub use stage::Stage;
pub use target::{Kind, Target};
pub use wire::{Door, Refused, Wire};

/// The result of a step of an attack.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
