//! The engine against a naive model of the same rules.

mod model;
mod naive;
mod steps;
mod turns;
mod world;
