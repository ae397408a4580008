//! Layers, observers and telemetry, on the embedded broker, with time that the tests turn.

mod around;
mod layers;
mod slow;
mod support;
#[cfg(feature = "tower")]
mod tower;
