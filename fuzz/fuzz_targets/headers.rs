#![no_main]

#[path = "../routing.rs"]
mod routing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| routing::naive::check_headers(bytes));
