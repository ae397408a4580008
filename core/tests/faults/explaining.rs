//! Errors of the login and of the end that name their cause: sizes, limits, names, and a broker that blocks.

use hopmq::{Builder, Connection, Error, ErrorKind};
use hopmq_proto::Config;

use crate::common::method::connection::Blocked;
use crate::common::{Reaction, Stage, World, fault, seconds};

#[track_caller]
fn refused(world: &mut World, builder: &Builder) -> Error {
    let error = world.connect_by(builder).map(drop).expect_err("the connect must fail");
    world.settle();
    error
}

#[test]
fn a_secret_beyond_the_limit_of_the_login_is_refused_with_its_size_and_the_setting() {
    let token = "x".repeat(9000);
    let builder = Connection::builder().credentials("", &token);
    let mut world = World::new();
    let error = refused(&mut world, &builder);
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("the secret has 9002 bytes") && text.contains("initial_frame_max"), "{text}");
    assert!(text.contains("limit during the login is 8192") && !text.contains("xxx"), "{text}");
    // With a higher limit at both ends, the same secret is accepted.
    let mut world = World::new();
    world.server.configure(|config: &mut Config| config.first_frame_max = 16_384);
    let connection = world.connect_by(&builder.initial_frame_max(16_384)).unwrap();
    assert!(connection.is_open());
    assert_eq!(world.server.responses[0].len(), 9002);
}

#[test]
fn a_login_frame_limit_below_the_minimum_is_refused() {
    let mut world = World::new();
    let error = refused(&mut world, &Connection::builder().initial_frame_max(4095));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("4096"), "{error}");
}

#[test]
fn a_broker_that_hangs_up_on_a_long_secret_is_asked_for_its_limit() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Tune, Reaction::Reset);
    let text = refused(&mut world, &Connection::builder().credentials("", &"x".repeat(5000))).to_string();
    assert!(text.contains("the secret has 5002 bytes") && text.contains("initial_frame_max"), "{text}");
}

#[test]
fn a_broker_that_hangs_up_on_a_small_frame_limit_is_not_said_to_lack_the_virtual_host() {
    for (frame_max, expected) in [(4096, "frame_max 4096 too small? RabbitMQ takes 8192"), (8192, "virtual host")] {
        let mut world = World::new();
        world.server.reactions.insert(Stage::OpenOk, Reaction::Cut);
        let text = refused(&mut world, &Connection::builder().frame_max(frame_max)).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_refusal_with_530_tells_a_limit_and_an_empty_name_from_a_missing_permission() {
    for (text, expected) in [
        ("NOT_ALLOWED - access to vhost '/' refused for user 'a': connection limit (1) is reached", "raise the limit"),
        ("NOT_ALLOWED - connection refused for user 'a': user connection limit (1) is reached", "raise the limit"),
        ("NOT_ALLOWED - vhost  not found", "amqp://host/%2f"),
        ("NOT_ALLOWED - vhost '' not found", "amqp://host/%2f"),
        ("NOT_ALLOWED - vhost x not found", "vhost x not found"),
        ("NOT_ALLOWED - access to vhost '/' refused for user 'a'", "refused for user 'a'"),
    ] {
        let mut world = World::new();
        world.server.reactions.insert(Stage::OpenOk, Reaction::Close(530, text));
        let error = refused(&mut world, &Connection::builder());
        assert_eq!(fault(&error), (ErrorKind::ConnectionClosed, Some(530)));
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.contains('('), text.contains("limit (") || expected.contains("%2f"), "{message}");
    }
}

#[test]
fn a_timeout_while_the_broker_blocks_names_its_reason() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.answer(0, &Blocked { reason: "low on disk" });
    world.server.holds = vec!["queue.declare", "basic.publish"];
    let declare = world.run(channel.queue("q").declare()).map(drop).unwrap_err();
    let confirm = world.run(channel.within(seconds(5)).publish("", "q", "x").confirm()).unwrap_err();
    for error in [declare, confirm] {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("the broker blocks publishing (low on disk)"), "{error}");
    }
    drop(connection);
    // A close that waits for confirms names it as well.
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.holds = vec!["basic.publish"];
    let _confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.server.answer(0, &Blocked { reason: "low on memory" });
    let error = world.run(connection.close()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("the broker blocks publishing (low on memory)"), "{error}");
}
