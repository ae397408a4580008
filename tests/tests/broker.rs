//! A broker's behaviour on the wire: every scenario of `scenarios/broker`.

#[path = "../scenarios/broker/mod.rs"]
mod scenarios;
