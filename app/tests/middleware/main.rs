//! Layers, observers and telemetry, on the embedded broker, with time that the tests turn.

mod around;
mod layers;
#[cfg(feature = "http")]
mod listener;
mod slow;
mod support;
mod telemetry;
#[cfg(feature = "tower")]
mod tower;
