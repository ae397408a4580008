use hopmq_app::consumer;

#[consumer(queue = "orders", bind = "order.new")]
async fn no_exchange() {}

#[consumer(queue = "orders", bind = "shop/#.")]
async fn empty_word() {}

#[consumer(queue = "orders", bind = "shop/order*")]
async fn part_of_a_word() {}

#[consumer(queue = "orders", bind = "/orders")]
async fn default_exchange() {}

fn main() {}
