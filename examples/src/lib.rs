//! Programs that show how to use HopMQ: `cargo run --example NAME`. See `examples/README.md`.

/// The top-level README, whose programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// `docs/guide.md`, whose programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;

/// The cookbook, whose programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/cookbook.md")]
struct Cookbook;

/// The guide to handlers, whose programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/handlers.md")]
struct Handlers;
