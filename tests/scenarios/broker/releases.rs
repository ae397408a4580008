//! What differs between RabbitMQ 3.13, 4.0 and 4.3, one difference a scenario. docs/releases.md lists the differences,
//! and `quorum_releases.rs` has those of quorum queues.

use super::prelude::*;
use super::quorum_releases::quorum;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_tests::peer::capabilities;
use hopmq_tests::{Release, release};

#[test]
fn a_dead_letter_names_its_last_death_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())]);
    ch.publish_to("q", "m");
    let message = ch.get_message("q");
    ch.reject(message.tag(), false);
    ch.wait_for_messages("dead", 1);
    let buried = ch.get_message("dead");
    let last = ["reason", "queue", "exchange"].map(|what| {
        let header = buried.header(&format!("x-last-death-{what}"));
        header.map(|header| peer.plain(&header))
    });
    let expected = ["'rejected'", "'q'", "''"].map(|text| (release() >= Release::V4_0).then(|| text.to_owned()));
    assert_eq!(last, expected);
}

#[test]
fn a_transient_queue_of_no_connection_ends_the_connection_since_4_3() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let queue = &ch.name("q");
    if release() < Release::V4_3 {
        let line = "queue.declare-ok q messages=0 consumers=0";
        return ch.expect_reply(&queue::Declare { queue, ..Default::default() }, line);
    }
    // It comes before all other checks.
    ch.durable_queue("q", &[]);
    ch.send(&queue::Declare { queue, ..Default::default() });
    let line = peer.next();
    let text = "connection.close 541 INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.";
    assert!(line.starts_with(text), "{line}");
}

#[test]
fn a_channels_prefetch_is_shared_by_its_consumers_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("a", &[]);
    ch.queue("b", &[]);
    ch.prefetch(1, true);
    ch.consume("a", "a");
    ch.consume("b", "b");
    ch.publish_to("a", "1");
    assert_eq!(ch.message().text(), "1");
    ch.publish_to("b", "2");
    match release() < Release::V4_3 {
        true => ch.wait_for_messages("b", 1),
        false => assert_eq!(ch.message().text(), "2"),
    }
}

#[test]
fn a_classic_queues_single_active_consumer_stays_and_the_highest_priority_follows() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    ch.consume("q", "first");
    ch.consume("q", "second");
    ch.consume_with("q", "higher", &[("x-priority", 5.into())]);
    ch.publish_to("q", "1");
    ch.expect("basic.deliver first 1 /q: 1");
    ch.cancel("first");
    ch.publish_to("q", "2");
    ch.expect("basic.deliver higher 2 /q: 2");
}

#[test]
fn a_death_that_a_client_wrote_is_continued_until_3_13() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())]);
    ch.publish_to("q", "m");
    let message = ch.get_message("q");
    ch.reject(message.tag(), false);
    ch.wait_for_messages("dead", 1);
    // A consumer republishes the dead letter with its headers.
    let message = ch.get_message("dead");
    ch.publish_to_with("q", "m", message.properties());
    ch.wait_for_messages("q", 1);
    let message = ch.get_message("q");
    ch.reject(message.tag(), false);
    ch.wait_for_messages("dead", 1);
    let deaths = ch.get_message("dead").deaths();
    let count = if release() < Release::V4_0 { 2 } else { 1 };
    assert_eq!(deaths.len(), 1);
    assert!(deaths[0].contains(&format!("count: l {count}, ")), "{deaths:?}");
}

#[test]
fn a_dead_letter_with_a_new_key_keeps_cc_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    ch.queue("copy", &[]);
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())]);
    let copies = FieldArray::new().with(Value::Str(ch.name("copy").as_bytes()));
    ch.publish_to_with("q", "m", &Properties::new().with_header("CC", &copies));
    ch.wait_for_messages("copy", 1);
    ch.wait_for_messages("q", 1);
    let message = ch.get_message("q");
    ch.reject(message.tag(), false);
    ch.wait_for_messages("dead", 1);
    let cc = ch.get_message("dead").header("CC").map(|cc| peer.plain(&cc));
    assert_eq!(cc.as_deref(), (release() >= Release::V4_0).then_some("['copy']"));
    // It is not routed by it.
    assert_eq!(ch.counts("copy"), "messages=1 consumers=0");
}

#[test]
fn any_delivery_mode_is_accepted_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for mode in [0, 3, 7, 255] {
        ch.publish_to_with("q", "m", &Properties::new().with_delivery_mode(mode));
        if release() < Release::V4_0 {
            let text = format!("invalid message: {{delivery_mode_unknown,{mode}}} (basic.publish)");
            ch.expect_close(&format!("406 PRECONDITION_FAILED - {text}"));
            continue;
        }
        ch.wait_for_messages("q", 1);
        assert_eq!(ch.get_message("q").properties().delivery_mode(), Some(mode));
    }
}

#[test]
fn headers_are_sorted_by_key_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("unsorted", &[]);
    let inner = table(&[("z", 1.into()), ("a", 2.into())]);
    let headers = [("b", 1.into()), ("c", 2.into()), ("B", 3.into()), ("aa", 4.into()), ("a", (&inner).into())];
    ch.publish_to_with("unsorted", "m", &Properties::new().with_headers(&table(&headers)));
    ch.wait_for_messages("unsorted", 1);
    let message = ch.get_message("unsorted");
    let expected = match release() >= Release::V4_0 {
        true => ["B", "a", "aa", "b", "c"],
        false => ["b", "c", "B", "aa", "a"],
    };
    assert_eq!(message.header_names(), expected);
    assert_eq!(message.header("a").as_deref(), Some("{z: I 1, a: I 2}"));
    // So are those that the broker adds.
    quorum(&stage, &ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_header("z", 1));
    ch.wait_for_messages("q", 1);
    let message = ch.get_message("q");
    ch.reject(message.tag(), true);
    ch.wait_for_messages("q", 1);
    let message = ch.get_message("q");
    if release() >= Release::V4_0 {
        assert!(message.header_names().is_sorted(), "{:?}", message.header_names());
    }
    ch.reject(message.tag(), false);
    ch.wait_for_messages("dead", 1);
    let names = ch.get_message("dead").header_names();
    assert!(names.is_sorted() || release() < Release::V4_0, "{names:?}");
}

#[test]
fn a_headers_exchange_compares_a_number_with_a_double_or_a_timestamp_until_3_13() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "headers", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "", &[("a", 1.into())]);
    let values = [Value::I64(1), Value::U8(1), Value::F64(1.0), Value::F32(1.0), Value::Timestamp(1)];
    for (index, value) in values.into_iter().enumerate() {
        ch.publish_with("x", "", &index.to_string(), &Properties::new().with_header("a", value));
    }
    ch.publish_with("x", "", "last", &Properties::new().with_header("a", 1));
    let expected: &[_] = match release() < Release::V4_0 {
        true => &["0", "1", "2", "3", "4", "last"],
        false => &["0", "1", "last"],
    };
    ch.wait_for_messages("q", expected.len() as u32);
    assert_eq!(ch.drain("q"), expected);
}

#[test]
fn an_unknown_exchange_type_closes_the_connection_until_3_13_and_the_channel_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: &stage.name("x"), kind: "magic", ..Default::default() };
    let text = "unknown exchange type 'magic' (exchange.declare)";
    match release() >= Release::V4_0 {
        true => ch.expect_refusal(&declare, &format!("406 PRECONDITION_FAILED - {text}")),
        false => peer.expect_connection_error(1, &declare, &format!("503 COMMAND_INVALID - {text}")),
    }
}

#[test]
fn a_local_random_exchange_picks_one_queue_since_4_0() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let exchange = &ch.name("x");
    let declare = exchange::Declare { exchange, kind: "x-local-random", ..Default::default() };
    if release() < Release::V4_0 {
        let text = "503 COMMAND_INVALID - unknown exchange type 'x-local-random' (exchange.declare)";
        return peer.expect_connection_error(1, &declare, text);
    }
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.queue("a", &[]);
    ch.queue("b", &[]);
    ch.bind("a", "x", "", &[]);
    ch.bind("b", "x", "", &[]);
    let (queue, exchange) = (&ch.name("a"), &ch.name("x"));
    let bind = queue::Bind { queue, exchange, routing_key: "k", ..Default::default() };
    ch.expect_refusal(&bind, "406 PRECONDITION_FAILED - Non empty binding 'k' key not permitted (queue.bind)");
    quorum(&stage, &ch, &[]);
    let bind = queue::Bind { queue: &ch.name("q"), exchange, ..Default::default() };
    let text = "Queue type rabbit_quorum_queue not valid for this exchange type (queue.bind)";
    ch.expect_refusal(&bind, &format!("406 PRECONDITION_FAILED - {text}"));
    let bind = exchange::Bind { destination: "amq.fanout", source: exchange, ..Default::default() };
    ch.expect_refusal(&bind, "406 PRECONDITION_FAILED - Destination not found (exchange.bind)");
    ch.select_confirms();
    for tag in 1..=64 {
        ch.publish("x", "k", "m");
        ch.expect_ack(tag);
    }
    let (a, b) = (ch.drain("a").len(), ch.drain("b").len());
    assert_eq!(a + b, 64);
    assert!(a > 0 && b > 0, "{a} and {b}");
}

#[test]
fn a_403_names_the_permission_since_4_0() {
    let stage = Stage::new();
    let user = stage.user("user", ["^mine", "^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("mine", &[]);
    let (mine, theirs) = (&ch.name("mine"), &ch.name("theirs"));
    let refused = |permission: &str, what: &str, method: &str| {
        let access = if release() >= Release::V4_0 { format!("{permission} access") } else { "access".to_owned() };
        format!("403 ACCESS_REFUSED - {access} to {what} in vhost '/' refused for user 'user' ({method})")
    };
    let declare = queue::Declare { queue: theirs, exclusive: true, ..Default::default() };
    ch.expect_refusal(&declare, &refused("configure", "queue 'theirs'", "queue.declare"));
    let get = basic::Get { queue: theirs, no_ack: true };
    ch.expect_refusal(&get, &refused("read", "queue 'theirs'", "basic.get"));
    ch.publish("amq.topic", "k", "m");
    ch.expect_close(&refused("write", "exchange 'amq.topic'", "basic.publish"));
    let bind = queue::Bind { queue: mine, exchange: "amq.topic", ..Default::default() };
    ch.expect_refusal(&bind, &refused("read", "exchange 'amq.topic'", "queue.bind"));
}

#[test]
fn a_403_for_a_topic_names_the_permission_since_4_0() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let admin = stage.connect();
    admin.channel(1).exchange("x", "topic", &[]);
    let user = stage.user("user", [".*", ".*", ".*"]);
    stage.set_topic_permissions(&user, "x", ["^mine", "^mine"]);
    let peer = Peer::open_as(&stage, &user, &user);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let refused = |permission: &str, method: &str| {
        let access = if release() >= Release::V4_0 { format!("{permission} access") } else { "access".to_owned() };
        format!(
            "403 ACCESS_REFUSED - {access} to topic 'theirs' in exchange 'x' in vhost '/' refused for user 'user' \
             ({method})"
        )
    };
    ch.publish("x", "theirs", "m");
    ch.expect_close(&refused("write", "basic.publish"));
    let (queue, exchange) = (&ch.name("q"), &ch.name("x"));
    let bind = queue::Bind { queue, exchange, routing_key: "theirs", ..Default::default() };
    ch.expect_refusal(&bind, &refused("read", "queue.bind"));
}

#[test]
fn another_protocol_is_answered_with_amqp_1_0_since_4_0() {
    let stage = Stage::new();
    let newest = if release() >= Release::V4_0 { *b"AMQP\x03\x01\x00\x00" } else { PROTOCOL_HEADER };
    for (header, expected) in [
        (*b"GET / HT", newest),
        (*b"AMQP\x02\x00\x00\x00", newest),
        (*b"AMQP\x00\x00\x09\x02", PROTOCOL_HEADER),
        (*b"AMQP\x00\x00\x09\x00", PROTOCOL_HEADER),
        (*b"AMQP\x00\x00\x0a\x00", PROTOCOL_HEADER),
        (*b"AMQP\x01\x01\x00\x0a", newest),
    ] {
        let peer = Peer::silent(&stage);
        peer.bytes(&header);
        assert_eq!(peer.header(), expected, "{}", header.escape_ascii());
    }
}

#[test]
fn an_anonymous_client_is_guest_where_that_is_offered() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(&PROTOCOL_HEADER);
    let is_offered = peer.next().contains("ANONYMOUS");
    assert!(!is_offered || release() >= Release::V4_0);
    let peer = Peer::login(&stage, &capabilities(), "ANONYMOUS", b"anything");
    if !is_offered {
        return assert_eq!(peer.next(), "end");
    }
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_user_id("guest"));
    ch.wait_for_messages("q", 1);
}

#[test]
fn a_frame_max_of_4096_ends_the_connection_since_4_3() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 4096, heartbeat: 0 });
    if release() >= Release::V4_3 {
        // RabbitMQ closes the socket without a word.
        let line = peer.next();
        return assert!(line == "end" || line.starts_with("connection.close 530 "), "{line}");
    }
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
}

/// Returns the address of a reply consumer on `ch`.
fn reply_address(ch: &Channel<'_>) -> String {
    let queue = "amq.rabbitmq.reply-to";
    let consume = basic::Consume { queue, consumer_tag: "replies", no_ack: true, ..Default::default() };
    ch.expect_reply(&consume, "basic.consume-ok replies");
    ch.queue("requests", &[]);
    ch.publish_to_with("requests", "question", &Properties::new().with_reply_to(queue));
    ch.wait_for_messages("requests", 1);
    ch.get_message("requests").properties().reply_to().expect("the request has a reply-to").to_owned()
}

#[test]
fn a_mandatory_reply_without_a_consumer_is_returned_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    let address = reply_address(&ch);
    ch.cancel("replies");
    server.select_confirms();
    server.publish_mandatory("", &address, "late");
    if release() < Release::V4_3 {
        assert_eq!(server.next(), format!("basic.return 312 NO_ROUTE /{address}: late"));
    }
    server.expect_ack(1);
}

#[test]
fn replies_have_delivery_tags_of_their_own_since_4_3() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    let address = reply_address(&ch);
    let answer = basic::Publish { routing_key: &address, ..Default::default() };
    let tags = [(); 2].map(|()| {
        server.send_message(answer, &Properties::new(), b"answer");
        ch.message().tag()
    });
    // The first tag of the channel was the request's. Before 4.3, a reply takes the next tag, and leaves it to others.
    let expected = if release() < Release::V4_3 { [2, 2] } else { [2, 3] };
    assert_eq!(tags, expected);
}
