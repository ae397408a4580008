//! Times that the broker takes in whole units, up to a bound.

use std::time::Duration;

use hopmq::{Connection, ErrorKind, Settled};

use crate::common::{World, seconds};

const NANO: Duration = Duration::from_nanos(1);
/// The longest time to live that RabbitMQ takes.
const TEN_YEARS: Duration = Duration::from_millis(315_360_000_000);

#[test]
fn a_fraction_of_a_unit_is_rounded_up() {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&Connection::builder().heartbeat(NANO));
    assert_eq!(connection.heartbeat(), seconds(1), "zero would turn heartbeats off");
    let queue = world.run(channel.queue("q").message_ttl(NANO).expires(NANO).declare()).unwrap();
    for (time, expected) in
        [(NANO, "1"), (Duration::from_micros(1001), "2"), (seconds(1), "1000"), (Duration::ZERO, "0")]
    {
        world.run(queue.publish("m").expiration(time).confirm()).unwrap();
        let delivery = world.run(channel.get_no_ack("q")).unwrap().unwrap();
        assert_eq!(delivery.properties().expiration(), Some(expected), "{time:?}");
        assert_eq!(delivery.ack().unwrap(), Settled::NotNeeded);
    }
}

#[test]
fn a_time_that_the_broker_does_not_take_is_refused_here_with_the_bound() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    let longest = channel.queue("q").message_ttl(TEN_YEARS).expires(TEN_YEARS);
    let queue = world.run(longest.declare()).unwrap();
    world.run(queue.publish("m").expiration(TEN_YEARS).confirm()).unwrap();
    world.server.forget();
    let too_long = TEN_YEARS + NANO;
    for (error, bound) in [
        (world.run(channel.queue("other").message_ttl(too_long).declare()).unwrap_err(), "0 to 315360000000 ms"),
        (world.run(channel.queue("other").expires(too_long).declare()).unwrap_err(), "1 to 315360000000 ms"),
        (world.run(channel.queue("other").expires(Duration::ZERO).declare()).unwrap_err(), "1 to 315360000000 ms"),
        (world.run(queue.publish("m").expiration(too_long).confirm()).unwrap_err(), "315360000000 ms"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(bound), "{error}");
    }
    world.settle();
    assert_eq!(world.server.seen(), [""; 0], "nothing was sent");
    world.run(queue.publish("m").confirm()).unwrap();

    for heartbeat in [seconds(65_535) + NANO, Duration::MAX] {
        world.renew();
        let error = world.connect_by(&Connection::builder().heartbeat(heartbeat)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("65535 seconds"), "{error}");
    }
}
