//! Consumer groups: three programs share the orders of a shop, in the order of each customer, and one of them dies.
//!
//! ```sh
//! cargo run --example groups      # needs no broker: it starts one within the program
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hopmq_app::{App, Control, Exchange, Json, Queue, State};
use hopmq_broker::Broker;
use serde::{Deserialize, Serialize};
use smol::future::FutureExt;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    number: usize,
}

/// What the members have done: by whom each order was handled.
#[derive(Clone)]
struct Ledger {
    name: &'static str,
    bills: Arc<Mutex<Vec<(String, usize)>>>,
    mails: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

async fn bill(Json(order): Json<Order>, State(ledger): State<Ledger>) {
    println!("billing    {}: order {} of {}", ledger.name, order.number, order.customer);
    ledger.bills.lock().unwrap().push((order.customer, order.number));
}

async fn mail(Json(_): Json<Order>, State(ledger): State<Ledger>) {
    *ledger.mails.lock().unwrap().entry(ledger.name).or_default() += 1;
}

/// One member of both groups: a program of its own.
async fn member(uri: String, ledger: Ledger, dies: Control) -> Result<(), hopmq_app::Error> {
    let connection = hopmq::Connection::open(&uri).await?;
    // Four partitions: the orders of a customer are all in one, and one member works on it at a time.
    let billing = Queue::subscribe("shop", "order.*").group("billing").partitions(4);
    let app = App::new(ledger)
        .exchange(Exchange::topic("shop"))
        .route(billing, bill)
        .route(Queue::subscribe("shop", "order.*").group("mail"), mail);
    let death = async {
        dies.stopped().await;
        Ok(())
    };
    app.run(&connection).or(death).await?;
    connection.close().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    let (bills, mails) = (Arc::default(), Arc::default());
    let mut members = BTreeMap::new();
    smol::block_on(async {
        for name in ["Ada", "Ben", "Cai"] {
            let ledger = Ledger { name, bills: Arc::clone(&bills), mails: Arc::clone(&mails) };
            let death = Control::default();
            let task = smol::spawn(member(broker.uri(), ledger, death.clone()));
            members.insert(name, (death, task));
        }
        // Each member consumes from two queues, four partitions, and what the members tell each other.
        broker.until(|inspect| inspect.consumers().len() == 3 * 7).await;

        println!("each message goes to one member of the group mail, and in order to one of the group billing:");
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let publish = async |number: usize| {
            let channel = connection.channel().await?;
            for customer in ["Kim", "Lee", "Max", "Noa", "Pia"] {
                let order = Order { customer: customer.into(), number };
                let (key, body) = (format!("order.{customer}"), serde_json::to_vec(&order).expect("JSON"));
                channel.publish("shop", &key, body).persistent().mandatory().confirm().await?;
            }
            channel.close().await
        };
        let handled = async |orders: usize| {
            let sent = || mails.lock().unwrap().values().sum::<usize>();
            let done = || bills.lock().unwrap().len() >= orders && sent() >= orders;
            while !done() {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
            for (name, mails) in mails.lock().unwrap().iter() {
                println!("mail       {name}: {mails} mails");
            }
            println!("all orders are handled\n");
        };
        for number in 1..=3 {
            publish(number).await?;
        }
        handled(15).await;

        let (death, task) = members.remove("Ben").expect("Ben");
        death.stop();
        task.await?;
        println!("Ben has gone; the others take his partitions over:");
        for number in 4..=5 {
            publish(number).await?;
        }
        handled(25).await;

        let mut latest: BTreeMap<String, usize> = BTreeMap::new();
        for (customer, number) in bills.lock().unwrap().iter() {
            let before = latest.insert(customer.clone(), *number).unwrap_or(0);
            assert!(*number <= before + 1, "order {number} of {customer} came after {before}");
        }
        println!("each customer's orders came in their order");
        for (death, task) in members.into_values() {
            death.stop();
            task.await?;
        }
        connection.close().await?;
        Ok(())
    })
}
