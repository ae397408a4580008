#![no_main]

#[allow(dead_code)]
#[path = "../../proto/tests/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::properties(bytes));
