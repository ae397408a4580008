use hopmq_app::{Ack, Json, State, consumer, handler};

#[derive(serde::Deserialize)]
struct Order {
    id: u64,
}

#[consumer(queue = "orders")]
async fn on_order(order: Order, State(shop): State<String>) -> Ack {
    println!("{shop}: {}", order.id);
    Ack
}

#[handler]
async fn by_hand(Json(order): Json<Order>, text: Option<&str>) {
    println!("{} {text:?}", order.id);
}

struct Unreadable;

#[handler]
async fn unreadable(_: Json<Unreadable>) {}

#[handler(state = String)]
async fn another_state(State(number): State<u32>) {
    println!("{number}");
}

fn main() {}
