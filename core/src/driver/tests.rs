//! The texts of errors that depend on what the driver knows: the host, and why the broker blocks publishing.

use crate::common::method::connection::Blocked;
use crate::common::{Reaction, Stage, World, poll_once, seconds};
use crate::{Connection, ErrorKind};

#[test]
fn a_silent_host_is_asked_whether_it_is_a_broker() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Start, Reaction::Stall);
    let error = world.connect_by(&Connection::builder()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker accepted the connection and sent no connection.start within 10s: is it an AMQP broker?"
    );
}

#[test]
fn a_timeout_while_the_broker_blocks_publishing_gives_the_brokers_reason() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let channel = channel.within(seconds(3));
    world.server.answer(0, &Blocked { reason: "low on disk" });
    world.settle();
    let error = world.run(channel.publish("", "q", "x").send()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().ends_with("the broker blocks publishing (low on disk)"), "{error}");
    world.server.holds = vec!["queue.purge"];
    let error = world.run(channel.queue_purge("q")).unwrap_err();
    assert!(error.to_string().ends_with("the broker blocks publishing (low on disk)"), "{error}");
    assert!(poll_once(&mut Box::pin(connection.closed())).is_pending());
}
