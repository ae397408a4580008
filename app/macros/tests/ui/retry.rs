use hopmq::Message;
use hopmq_app::consumer;

fn customer(message: &Message) -> Option<i64> {
    message.header("customer").and_then(|value| value.as_i64())
}

#[consumer(queue = "orders", retry(first = "1s", attempts = 0))]
async fn no_attempt() {}

#[consumer(queue = "orders", retry(first = "1 fortnight"))]
async fn no_time() {}

#[consumer(queue = "orders", retry(first = 5))]
async fn no_unit() {}

#[consumer(queue = "orders", retry(attempts = 4))]
async fn no_delay() {}

#[consumer(queue = "orders", retry(first = "1s", fixed = "2s"))]
async fn two_delays() {}

#[consumer(queue = "orders", retry(frist = "1s"))]
async fn misspelt() {}

#[consumer(queue = "orders", retry(first = "10s", max = "1s"))]
async fn longest_is_shortest() {}

#[consumer(queue = "orders", retry(fixed = "1s", factor = 5))]
async fn factor_of_a_fixed_delay() {}

#[consumer(queue = "orders", retry(first = "1s", jitter = 120))]
async fn more_than_all() {}

#[consumer(queue = "orders", ordered_by = customer, retry(first = "1m", factor = 5, max = "1h", attempts = 5))]
async fn too_long_in_place() {}

#[consumer(queue = "orders", retry)]
async fn nothing_said() {}

#[consumer(queue = "orders", retry_class(fixed = "1s"))]
async fn no_class() {}

fn main() {}
