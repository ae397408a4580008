use hopmq_app::{consumer, handler};

#[consumer(queue = "orders", prefech = 8)]
async fn misspelt() {}

#[consumer(queue = "orders", colour = "red")]
async fn unknown() {}

#[consumer(quorum)]
async fn no_queue() {}

#[consumer(queue = "")]
async fn no_name() {}

#[consumer(queue = "orders", quorum, classic)]
async fn two_types() {}

#[consumer(queue = "orders", prefetch(8))]
async fn not_so_written() {}

#[consumer(queue = "orders", quorum, quorum)]
async fn twice() {}

#[consumer(queue = "orders", existing = adapt)]
async fn no_such_choice() {}

#[consumer(queue = "orders", concurrency = 0)]
async fn none_at_once() {}

#[consumer(queue = "orders", concurrency = 8, prefetch = 2)]
async fn idle_places() {}

#[consumer(queue = "orders", concurrency = "8")]
async fn no_number() {}

#[consumer(queue = "orders", dead_letter = "orders")]
async fn round_and_round() {}

#[handler(queue = "orders")]
async fn queue_of_a_handler() {}

fn main() {}
