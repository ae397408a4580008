#![no_main]

#[path = "../../broker/tests/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::definitions(bytes));
