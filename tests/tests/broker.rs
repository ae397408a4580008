//! What a broker does, seen from the wire: every scenario of `scenarios/broker`.

#[path = "../scenarios/broker/mod.rs"]
mod scenarios;
