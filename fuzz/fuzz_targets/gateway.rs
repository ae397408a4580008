#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hopmq_gateway::testing::converse(bytes));
