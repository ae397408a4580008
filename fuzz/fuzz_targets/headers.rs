#![no_main]

#[path = "../../broker/src/engine/routing/destinations.rs"]
#[allow(dead_code)]
mod destinations;
#[path = "../../broker/src/engine/routing/headers.rs"]
#[allow(dead_code)]
mod headers;
#[path = "../../broker/src/engine/routing/naive.rs"]
#[allow(dead_code)]
mod naive;
#[path = "../../broker/src/engine/routing/places.rs"]
mod places;
#[path = "../../broker/src/engine/routing/topic.rs"]
#[allow(dead_code)]
mod topic;
#[path = "../../broker/src/engine/routing/words.rs"]
#[allow(dead_code)]
mod words;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naive::check_headers(bytes));
