//! A host name with several addresses, of which some accept the connection and then fail.

use std::future::Future;
use std::pin::Pin;

use futures_lite::StreamExt;
use hopmq::{Builder, Connection, Connector, Driver, ErrorKind, Event, Recovery, Result};

use crate::common::{Net, Reaction, STAGES, Stage, Started, Transport, VirtualTime, VirtualTimer, World, seconds};

/// A name with three addresses, and each attempt chooses the next one.
struct Name {
    net: Net,
    time: VirtualTime,
    left: usize,
}

/// The number of addresses.
const COUNT: usize = 3;

impl Name {
    fn dial(&self) -> <Self as Connector>::Connecting {
        Box::pin(self.net.dial(self.time.now()))
    }
}

impl Connector for Name {
    type Transport = Transport;
    type Connecting = Pin<Box<dyn Future<Output = Result<Transport>>>>;

    fn connect(&mut self) -> Self::Connecting {
        self.left = COUNT - 1;
        self.dial()
    }

    fn addresses_left(&self) -> usize {
        self.left
    }

    fn connect_again(&mut self) -> Self::Connecting {
        self.left -= 1;
        self.dial()
    }

    fn host(&self) -> String {
        format!("rabbit (10.0.0.{})", COUNT - self.left)
    }
}

type Opened = (Connection, Driver<Transport, VirtualTimer, Name>);

/// Begins to connect.
fn connect(world: &mut World, builder: &Builder) -> Started<Result<Opened>> {
    let connector = Name { net: world.net.clone(), time: world.time.clone(), left: 0 };
    let timer = world.time.timer();
    let builder = builder.clone();
    world.start(async move { builder.connect_with(connector, timer).await })
}

/// Returns the seconds at which the client tried to connect.
fn dials(world: &World) -> Vec<u64> {
    world.net.dials().iter().map(|time| time.since_epoch().as_secs()).collect()
}

#[test]
fn an_address_that_closes_in_the_handshake_is_followed_by_another_at_once() {
    let mut world = World::new();
    world.server.cut_after = Some(1);
    let (connection, _driver) = connect(&mut world, &Connection::builder()).done().unwrap();
    assert!(connection.is_open());
    assert_eq!(dials(&world), [0, 0]);
}

#[test]
fn an_address_that_hangs_in_the_handshake_gets_a_share_of_the_time() {
    for stage in STAGES {
        let mut world = World::new();
        world.server.reactions.insert(stage, Reaction::Stall);
        let outcome = connect(&mut world, &Connection::builder().connect_timeout(seconds(9)));
        world.server.reactions.insert(stage, Reaction::Stall);
        world.advance(seconds(4));
        assert_eq!(dials(&world), [0, 3], "{stage:?}");
        world.advance(seconds(2));
        assert!(outcome.done().is_ok(), "{stage:?}");
        assert_eq!(dials(&world), [0, 3, 6], "{stage:?}");
    }
}

#[test]
fn the_error_names_what_each_address_did_within_the_timeout_of_the_host() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Start, Reaction::Stall);
    let outcome = connect(&mut world, &Connection::builder().connect_timeout(seconds(9)));
    for _ in 0..3 {
        world.server.reactions.insert(Stage::Start, Reaction::Stall);
        world.advance(seconds(3));
    }
    let error = outcome.done().map(drop).unwrap_err();
    assert_eq!((error.kind(), dials(&world)), (ErrorKind::Timeout, vec![0, 3, 6]));
    let text = error.to_string();
    for address in 1..=3 {
        let part = format!("rabbit (10.0.0.{address}) accepted the connection and sent no connection.start within 3s");
        assert!(text.contains(&part), "{text}");
    }
}

#[test]
fn refused_credentials_are_not_tried_at_another_address() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Tune, Reaction::Close(403, "no"));
    let error = connect(&mut world, &Connection::builder()).done().map(drop).unwrap_err();
    assert_eq!((error.kind(), dials(&world)), (ErrorKind::Authentication, vec![0]));
}

#[test]
fn recovery_tries_the_other_addresses_without_a_delay() {
    let mut world = World::new();
    let builder = Connection::builder().recovery(Recovery::new().seed(1)).connect_timeout(seconds(9));
    let (connection, driver) = connect(&mut world, &builder).done().unwrap();
    world.start(driver);
    let mut events = connection.events();
    world.server.wire.cut();
    for _ in 0..2 {
        world.server.reactions.insert(Stage::OpenOk, Reaction::Stall);
        world.advance(seconds(3));
    }
    world.advance(seconds(1));
    assert!(connection.is_connected());
    assert_eq!(dials(&world), [0, 0, 3, 6]);
    let connected = world.run(async move {
        loop {
            match events.next().await {
                Some(Event::Connected { host }) => return host,
                Some(event) => assert!(!matches!(event, Event::Retrying { .. }), "{event:?}"),
                None => panic!("the connection ended"),
            }
        }
    });
    assert_eq!(connected, "rabbit (10.0.0.3)");
}
