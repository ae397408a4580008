#![no_main]

#[path = "../../proto/tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::robust::client_bytes(bytes));
