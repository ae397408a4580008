use hopmq_app::{Ack, Text, consumer, handler};

#[consumer(queue = "orders")]
async fn on_order(Text(order): Text) -> usize {
    order.len()
}

struct OrderError;

#[handler]
async fn by_hand(Text(order): Text) -> Result<Ack, OrderError> {
    if order.is_empty() { Err(OrderError) } else { Ok(Ack) }
}

#[handler]
async fn lengths(Text(order): Text) -> Result<usize, String> {
    Ok(order.len())
}

fn main() {}
