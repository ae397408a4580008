//! What becomes of unacked messages when their connection closes.

use hopmq_blocking::{Connection, Recovery};
use hopmq_broker::Broker;
use hopmq_broker::inspect::Message;

fn connect(broker: &Broker) -> Connection {
    Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap()
}

fn ready(broker: &Broker) -> Vec<String> {
    broker.wait_until(|inspector| inspector.connections().is_empty());
    broker.inspect().ready("orders").iter().map(Message::text).collect()
}

/// The second channel must not get the message of the first one while both are being closed: that would lose it.
#[test]
fn a_closed_connection_requeues_a_message_that_its_other_channel_could_consume() {
    let broker = Broker::in_memory();
    let connection = connect(&broker);
    let first = connection.channel().unwrap();
    let second = connection.channel().unwrap();
    let queue = first.queue("orders").declare().unwrap();
    queue.publish("a pizza").confirm().unwrap();
    let mut consumer = queue.consume().start().unwrap();
    let delivery = consumer.next().unwrap().unwrap();
    let waiting = second.queue("orders").declare().unwrap().consume().start().unwrap();
    connection.close().unwrap();
    assert_eq!(ready(&broker), ["a pizza"]);
    drop((delivery, waiting));
}

#[test]
fn a_closed_connection_passes_nothing_to_its_next_active_consumer() {
    let broker = Broker::in_memory();
    let connection = connect(&broker);
    let first = connection.channel().unwrap();
    let second = connection.channel().unwrap();
    first.prefetch(1).unwrap();
    let queue = first.queue("orders").argument("x-single-active-consumer", true).declare().unwrap();
    let active = queue.consume().start().unwrap();
    let neighbour = queue.consume().start().unwrap();
    let waiting = second.queue("orders").declare_passive().unwrap().consume().start().unwrap();
    for order in ["a pizza", "a salad"] {
        queue.publish(order).confirm().unwrap();
    }
    connection.close().unwrap();
    assert_eq!(ready(&broker), ["a pizza", "a salad"]);
    drop((active, neighbour, waiting));
}
