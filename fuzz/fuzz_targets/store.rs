#![no_main]

#[path = "../../broker/tests/store/mutations.rs"]
mod mutations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mutations::store(bytes));
