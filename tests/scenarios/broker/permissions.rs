//! Permissions: configure, write, read, and topics.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Returns the text of a refusal of `method` for the user. Since 4.0 it names the permission.
fn refused(permission: &str, what: &str, method: &str) -> String {
    let access = access(permission);
    format!("403 ACCESS_REFUSED - {access} to {what} in vhost '/' refused for user 'user' ({method})")
}

fn access(permission: &str) -> String {
    if release() >= Release::V4_0 { format!("{permission} access") } else { "access".to_owned() }
}

#[test]
fn a_user_without_permissions_may_not_open_the_virtual_host() {
    let stage = Stage::new();
    let user = stage.user_without_permissions("user");
    let peer = Peer::login(&stage, &hopmq_tests::peer::capabilities(), "PLAIN", format!("\0{user}\0{user}").as_bytes());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    let open = connection::Open { virtual_host: "/" };
    peer.expect_connection_error(
        0,
        &open,
        "530 NOT_ALLOWED - access to vhost '/' refused for user 'user' (connection.open)",
    );
}

#[test]
fn declaring_and_deleting_need_configure() {
    let stage = Stage::new();
    stage.delete_at_end(&["theirs", "x-theirs"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    let theirs = &owner.name("theirs");
    owner.expect_reply(
        &queue::Declare { queue: theirs, durable: true, ..Default::default() },
        "queue.declare-ok theirs messages=0 consumers=0",
    );
    owner.exchange("x-theirs", "fanout", &[]);
    let user = stage.user("user", ["^mine", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("mine", &[]);
    ch.expect_refusal(
        &queue::Declare { queue: theirs, durable: true, ..Default::default() },
        &refused("configure", "queue 'theirs'", "queue.declare"),
    );
    ch.expect_refusal(
        &queue::Delete { queue: theirs, ..Default::default() },
        &refused("configure", "queue 'theirs'", "queue.delete"),
    );
    let exchange = &ch.name("x-theirs");
    ch.expect_refusal(
        &exchange::Declare { exchange, kind: "fanout", ..Default::default() },
        &refused("configure", "exchange 'x-theirs'", "exchange.declare"),
    );
    ch.expect_refusal(
        &exchange::Delete { exchange, ..Default::default() },
        &refused("configure", "exchange 'x-theirs'", "exchange.delete"),
    );
    // A passive declare needs no permission.
    assert_eq!(ch.counts("theirs"), "messages=0 consumers=0");
    ch.expect_reply(&queue::Purge { queue: theirs, ..Default::default() }, "queue.purge-ok 0");
}

#[test]
fn publishing_needs_write_on_the_exchange() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let admin = stage.connect();
    admin.channel(1).exchange("x", "fanout", &[]);
    let user = stage.user("user", [".*", "^mine", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.publish("x", "", "m");
    ch.expect_close(&refused("write", "exchange 'x'", "basic.publish"));
    ch.publish_to("mine", "m");
    ch.expect_close(&refused("write", "exchange 'amq.default'", "basic.publish"));
}

#[test]
fn consuming_getting_and_purging_need_read_on_the_queue() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let admin = stage.connect();
    let queue = &stage.name("q");
    let declare = queue::Declare { queue, durable: true, ..Default::default() };
    admin.channel(1).expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    let user = stage.user("user", [".*", ".*", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.expect_refusal(&basic::Consume { queue, ..Default::default() }, &refused("read", "queue 'q'", "basic.consume"));
    ch.expect_refusal(&basic::Get { queue, no_ack: true }, &refused("read", "queue 'q'", "basic.get"));
    ch.expect_refusal(&queue::Purge { queue, ..Default::default() }, &refused("read", "queue 'q'", "queue.purge"));
}

#[test]
fn binding_needs_write_on_the_destination_and_read_on_the_source() {
    let stage = Stage::new();
    stage.delete_at_end(&["written", "read", "x-written", "x-read"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    for queue in ["written", "read"] {
        let declare = queue::Declare { queue: &owner.name(queue), durable: true, ..Default::default() };
        owner.expect_reply(&declare, &format!("queue.declare-ok {queue} messages=0 consumers=0"));
    }
    owner.exchange("x-written", "fanout", &[]);
    owner.exchange("x-read", "fanout", &[]);
    let user = stage.user("user", ["", "written", "read"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.bind("written", "x-read", "", &[]);
    ch.unbind("written", "x-read", "", &[]);
    ch.bind_exchange("x-written", "x-read", "", &[]);
    let (written, read) = (&ch.name("written"), &ch.name("read"));
    let (x_written, x_read) = (&ch.name("x-written"), &ch.name("x-read"));
    let bind = queue::Bind { queue: read, exchange: x_read, ..Default::default() };
    ch.expect_refusal(&bind, &refused("write", "queue 'read'", "queue.bind"));
    let bind = queue::Bind { queue: written, exchange: x_written, ..Default::default() };
    ch.expect_refusal(&bind, &refused("read", "exchange 'x-written'", "queue.bind"));
    let unbind = queue::Unbind { queue: written, exchange: x_written, ..Default::default() };
    ch.expect_refusal(&unbind, &refused("read", "exchange 'x-written'", "queue.unbind"));
    let bind = exchange::Bind { destination: x_read, source: x_read, ..Default::default() };
    ch.expect_refusal(&bind, &refused("write", "exchange 'x-read'", "exchange.bind"));
    let bind = exchange::Bind { destination: x_written, source: x_written, ..Default::default() };
    ch.expect_refusal(&bind, &refused("read", "exchange 'x-written'", "exchange.bind"));
}

#[test]
fn a_dead_letter_exchange_needs_read_on_the_queue_and_write_on_the_exchange() {
    let stage = Stage::new();
    let user = stage.user("user", [".*", "^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("mine", &[("x-dead-letter-exchange", (&ch.name("mine-too")).into())]);
    for (queue, dead_letters, permission, what) in
        [("mine-next", "theirs", "write", "exchange 'theirs'"), ("unread", "mine-too", "read", "queue 'unread'")]
    {
        let access = access(permission);
        ch.expect_queue_refusal(
            queue,
            &[("x-dead-letter-exchange", (&ch.name(dead_letters)).into())],
            &format!("403 ACCESS_REFUSED - {access} to {what} in vhost '/' refused for user 'user'"),
        );
    }
}

#[test]
fn an_alternate_exchange_needs_read_on_the_exchange_and_write_on_the_alternate() {
    let stage = Stage::new();
    stage.delete_at_end(&["mine"]);
    let user = stage.user("user", [".*", "^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.exchange("mine", "fanout", &[("alternate-exchange", (&ch.name("mine-too")).into())]);
    for (name, alternate, permission, what) in
        [("mine-next", "theirs", "write", "exchange 'theirs'"), ("unread", "mine-too", "read", "exchange 'unread'")]
    {
        let arguments = table(&[("alternate-exchange", (&ch.name(alternate)).into())]);
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &ch.name(name), kind: "fanout", arguments, ..Default::default() };
        ch.expect_refusal(&declare, &refused(permission, what, "exchange.declare"));
    }
}

#[test]
fn a_pattern_matches_anywhere_and_an_empty_pattern_nothing() {
    let stage = Stage::new();
    let user = stage.user("user", ["middle", "", ""]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("in the middle of it", &[]);
    let queue = &ch.name("MIDDLE");
    ch.expect_refusal(
        &queue::Declare { queue, durable: true, ..Default::default() },
        &refused("configure", "queue 'MIDDLE'", "queue.declare"),
    );
    ch.publish("amq.fanout", "", "m");
    ch.expect_close(&refused("write", "exchange 'amq.fanout'", "basic.publish"));
}

#[test]
fn a_name_chosen_by_the_broker_must_be_permitted() {
    let stage = Stage::new();
    let user = stage.user("user", ["^amq.gen", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    let declare = queue::Declare { exclusive: true, ..Default::default() };
    assert!(ch.ask(&declare).starts_with("queue.declare-ok amq.gen-"));
    let user = stage.user("other", ["^mine", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let line = peer.channel(1).ask(&declare);
    let refusal = format!("channel.close 403 ACCESS_REFUSED - {} to queue 'amq.gen-", access("configure"));
    assert!(line.starts_with(&refusal), "{line}");
}

#[test]
fn topic_permissions_restrict_the_routing_keys_of_a_topic_exchange() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "free"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    owner.exchange("x", "topic", &[]);
    owner.exchange("free", "direct", &[]);
    let user = stage.user("user", [".*", ".*", ".*"]);
    stage.set_topic_permissions(&user, "x", ["^eu", "^(eu|us)"]);
    stage.set_topic_permissions(&user, "free", ["^eu", "^eu"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.bind("q", "x", "us.#", &[]);
    ch.bind("q", "x", "eu.#", &[]);
    let bind = queue::Bind { queue: &ch.name("q"), exchange: &ch.name("x"), routing_key: "#", ..Default::default() };
    ch.expect_refusal(&bind, &refused("read", "topic '#' in exchange 'x'", "queue.bind"));
    ch.publish("x", "eu.fr", "in");
    ch.publish("x", "us.ny", "out");
    ch.expect_close(&refused("write", "topic 'us.ny' in exchange 'x'", "basic.publish"));
    // A direct exchange has no topics.
    ch.publish("free", "us.ny", "m");
    assert_eq!(ch.drain("q"), ["in"]);
}

#[test]
fn an_impersonator_may_publish_with_another_user_id() {
    let stage = Stage::new();
    let user = stage.impersonator("user", [".*", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_user_id("other"));
    assert_eq!(ch.get_message("q").properties().user_id(), Some("other"));
}

#[test]
fn an_empty_password_is_refused() {
    let stage = Stage::new();
    let user = stage.user("user", [".*", ".*", ".*"]);
    let peer = Peer::login(&stage, &hopmq_tests::peer::capabilities(), "PLAIN", format!("\0{user}\0").as_bytes());
    let line = peer.next();
    assert!(line.starts_with("connection.close 403 ACCESS_REFUSED - Login was refused"), "{line}");
}
