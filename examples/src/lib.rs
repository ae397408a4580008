//! Programs that show HopMQ: `cargo run --example NAME`. See `examples/README.md`.
