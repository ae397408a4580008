use std::rc::Rc;

use hopmq_app::{App, Queue, Text, consumer, routes};

#[consumer(queue = "orders")]
async fn on_order(Text(order): Text) {
    let shared = Rc::new(order);
    std::future::ready(()).await;
    println!("{shared}");
}

#[consumer(queue = "plain")]
fn plain(Text(order): Text) {
    println!("{order}");
}

async fn no_queue(Text(order): Text) {
    println!("{order}");
}

fn main() {
    let _ = App::new(()).with(routes![on_order]);
    let _ = App::new(()).with(routes![plain]);
    let _ = App::new(()).with(routes![no_queue]);
    let _ = App::new(()).with(routes![|| async {}]);
    let _ = App::new(()).route(Queue::new("number"), |number: u32| async move { println!("{number}") });
}
