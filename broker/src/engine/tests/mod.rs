//! The engine against a naive model of the same rules, and its turns and alarms.

mod alarms;
mod model;
mod naive;
mod steps;
mod turns;
mod world;
