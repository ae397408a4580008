//! Who may do what: configure, write, read, and topics.

use super::prelude::*;

/// The end of a refusal: for whom, and of which method.
fn refused(what: &str, method: &str) -> String {
    format!("403 ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'user' ({method})")
}

#[test]
fn a_user_without_permissions_may_not_open_the_virtual_host() {
    let stage = Stage::new();
    let user = stage.stranger("user");
    let peer = Peer::login(&stage, &hopmq_tests::peer::capabilities(), "PLAIN", format!("\0{user}\0{user}").as_bytes());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    let open = connection::Open { virtual_host: "/" };
    peer.dies(0, &open, "530 NOT_ALLOWED - access to vhost '/' refused for user 'user' (connection.open)");
}

#[test]
fn declaring_and_deleting_is_configuring() {
    let stage = Stage::new();
    stage.leaves(&["theirs", "x-theirs"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    let theirs = &owner.name("theirs");
    owner.answers(
        &queue::Declare { queue: theirs, ..Default::default() },
        "queue.declare-ok theirs messages=0 consumers=0",
    );
    owner.exchange("x-theirs", "fanout", &[]);
    let user = stage.user("user", ["^mine", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("mine", &[]);
    ch.refuses(&queue::Declare { queue: theirs, ..Default::default() }, &refused("queue 'theirs'", "queue.declare"));
    ch.refuses(&queue::Delete { queue: theirs, ..Default::default() }, &refused("queue 'theirs'", "queue.delete"));
    let exchange = &ch.name("x-theirs");
    ch.refuses(
        &exchange::Declare { exchange, kind: "fanout", ..Default::default() },
        &refused("exchange 'x-theirs'", "exchange.declare"),
    );
    ch.refuses(
        &exchange::Delete { exchange, ..Default::default() },
        &refused("exchange 'x-theirs'", "exchange.delete"),
    );
    // Looking, purging and using is something else.
    assert_eq!(ch.counts("theirs"), "messages=0 consumers=0");
    ch.answers(&queue::Purge { queue: theirs, ..Default::default() }, "queue.purge-ok 0");
}

#[test]
fn publishing_is_writing_to_the_exchange() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let admin = stage.connect();
    admin.channel(1).exchange("x", "fanout", &[]);
    let user = stage.user("user", [".*", "^mine", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.publish("x", "", "m");
    ch.closes(&refused("exchange 'x'", "basic.publish"));
    ch.to("mine", "m");
    ch.closes(&refused("exchange 'amq.default'", "basic.publish"));
}

#[test]
fn consuming_getting_and_purging_is_reading_the_queue() {
    let stage = Stage::new();
    stage.leaves(&["q"]);
    let admin = stage.connect();
    let queue = &stage.name("q");
    let declare = queue::Declare { queue, ..Default::default() };
    admin.channel(1).answers(&declare, "queue.declare-ok q messages=0 consumers=0");
    let user = stage.user("user", [".*", ".*", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.refuses(&basic::Consume { queue, ..Default::default() }, &refused("queue 'q'", "basic.consume"));
    ch.refuses(&basic::Get { queue, no_ack: true }, &refused("queue 'q'", "basic.get"));
    ch.refuses(&queue::Purge { queue, ..Default::default() }, &refused("queue 'q'", "queue.purge"));
}

#[test]
fn binding_is_writing_to_the_destination_and_reading_the_source() {
    let stage = Stage::new();
    stage.leaves(&["written", "read", "x-written", "x-read"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    for queue in ["written", "read"] {
        let declare = queue::Declare { queue: &owner.name(queue), ..Default::default() };
        owner.answers(&declare, &format!("queue.declare-ok {queue} messages=0 consumers=0"));
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
    ch.refuses(&bind, &refused("queue 'read'", "queue.bind"));
    let bind = queue::Bind { queue: written, exchange: x_written, ..Default::default() };
    ch.refuses(&bind, &refused("exchange 'x-written'", "queue.bind"));
    let unbind = queue::Unbind { queue: written, exchange: x_written, ..Default::default() };
    ch.refuses(&unbind, &refused("exchange 'x-written'", "queue.unbind"));
    let bind = exchange::Bind { destination: x_read, source: x_read, ..Default::default() };
    ch.refuses(&bind, &refused("exchange 'x-read'", "exchange.bind"));
    let bind = exchange::Bind { destination: x_written, source: x_written, ..Default::default() };
    ch.refuses(&bind, &refused("exchange 'x-written'", "exchange.bind"));
}

#[test]
fn dead_letters_need_reading_the_queue_and_writing_to_their_exchange() {
    let stage = Stage::new();
    let user = stage.user("user", [".*", "^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("mine", &[("x-dead-letter-exchange", (&ch.name("mine-too")).into())]);
    ch.no_queue(
        "mine-next",
        &[("x-dead-letter-exchange", (&ch.name("theirs")).into())],
        "403 ACCESS_REFUSED - access to exchange 'theirs' in vhost '/' refused for user 'user'",
    );
    ch.no_queue(
        "unread",
        &[("x-dead-letter-exchange", (&ch.name("mine-too")).into())],
        "403 ACCESS_REFUSED - access to queue 'unread' in vhost '/' refused for user 'user'",
    );
}

#[test]
fn an_alternate_exchange_needs_reading_the_one_and_writing_to_the_other() {
    let stage = Stage::new();
    stage.leaves(&["mine"]);
    let user = stage.user("user", [".*", "^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.exchange("mine", "fanout", &[("alternate-exchange", (&ch.name("mine-too")).into())]);
    for (name, alternate, what) in [("mine-next", "theirs", "'theirs'"), ("unread", "mine-too", "'unread'")] {
        let arguments = table(&[("alternate-exchange", (&ch.name(alternate)).into())]);
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &ch.name(name), kind: "fanout", arguments, ..Default::default() };
        ch.refuses(&declare, &refused(&format!("exchange {what}"), "exchange.declare"));
    }
}

#[test]
fn a_pattern_matches_anywhere_and_an_empty_one_nothing() {
    let stage = Stage::new();
    let user = stage.user("user", ["middle", "", ""]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("in the middle of it", &[]);
    let queue = &ch.name("MIDDLE");
    ch.refuses(&queue::Declare { queue, ..Default::default() }, &refused("queue 'MIDDLE'", "queue.declare"));
    ch.publish("amq.fanout", "", "m");
    ch.closes(&refused("exchange 'amq.fanout'", "basic.publish"));
}

#[test]
fn a_name_that_the_broker_gives_has_to_be_allowed_as_well() {
    let stage = Stage::new();
    let user = stage.user("user", ["^amq.gen", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    let declare = queue::Declare { exclusive: true, ..Default::default() };
    assert!(ch.ask(&declare).starts_with("queue.declare-ok amq.gen-"));
    let user = stage.user("other", ["^mine", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let line = peer.channel(1).ask(&declare);
    assert!(line.starts_with("channel.close 403 ACCESS_REFUSED - access to queue 'amq.gen-"), "{line}");
}

#[test]
fn topics_bound_what_is_written_to_and_read_from_a_topic_exchange() {
    let stage = Stage::new();
    stage.leaves(&["x", "free"]);
    let admin = stage.connect();
    let owner = admin.channel(1);
    owner.exchange("x", "topic", &[]);
    owner.exchange("free", "direct", &[]);
    let user = stage.user("user", [".*", ".*", ".*"]);
    stage.topics(&user, "x", ["^eu", "^(eu|us)"]);
    stage.topics(&user, "free", ["^eu", "^eu"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.bind("q", "x", "us.#", &[]);
    ch.bind("q", "x", "eu.#", &[]);
    let bind = queue::Bind { queue: &ch.name("q"), exchange: &ch.name("x"), routing_key: "#", ..Default::default() };
    ch.refuses(
        &bind,
        "403 ACCESS_REFUSED - access to topic '#' in exchange 'x' in vhost '/' refused for user 'user' (queue.bind)",
    );
    ch.publish("x", "eu.fr", "in");
    ch.publish("x", "us.ny", "out");
    ch.closes(
        "403 ACCESS_REFUSED - access to topic 'us.ny' in exchange 'x' in vhost '/' refused for user 'user' \
         (basic.publish)",
    );
    // A direct exchange has no topics.
    ch.publish("free", "us.ny", "m");
    assert_eq!(ch.drain("q"), ["in"]);
}

#[test]
fn an_impersonator_may_publish_as_somebody_else() {
    let stage = Stage::new();
    let user = stage.impersonator("user", [".*", ".*", ".*"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to_with("q", "m", &Properties::new().with_user_id("somebody"));
    assert_eq!(ch.got("q").properties().user_id(), Some("somebody"));
}

#[test]
fn an_empty_password_lets_nobody_in() {
    let stage = Stage::new();
    let user = stage.user("user", [".*", ".*", ".*"]);
    let peer = Peer::login(&stage, &hopmq_tests::peer::capabilities(), "PLAIN", format!("\0{user}\0").as_bytes());
    let line = peer.next();
    assert!(line.starts_with("connection.close 403 ACCESS_REFUSED - Login was refused"), "{line}");
}
