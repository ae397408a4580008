//! Direct reply-to: replies without a queue.

use super::prelude::*;
use hopmq_tests::{Release, release};

const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Starts a consumer of replies.
fn listen(ch: &Channel<'_>, tag: &str) {
    let consume = basic::Consume { queue: REPLIES, consumer_tag: tag, no_ack: true, ..Default::default() };
    ch.expect_reply(&consume, &format!("basic.consume-ok {tag}"));
}

/// Publishes a request, and returns the reply address that the server sees.
fn ask(ch: &Channel<'_>, server: &Channel<'_>) -> String {
    ch.publish_to_with("requests", "question", &Properties::new().with_reply_to(REPLIES));
    server.wait_for_messages("requests", 1);
    let question = server.get_message("requests");
    let address = question.properties().reply_to().expect("the request has a reply-to").to_owned();
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() > 30, "{address}");
    address
}

#[test]
fn a_reply_reaches_its_requester() {
    let stage = Stage::new();
    let (client, server) = (stage.connect(), stage.connect());
    let (ch, answering) = (client.channel(1), server.channel(1));
    let requests = queue::Declare { queue: &ch.name("requests"), durable: true, ..Default::default() };
    stage.delete_at_end(&["requests"]);
    ch.expect_reply(&requests, "queue.declare-ok requests messages=0 consumers=0");
    listen(&ch, "replies");
    let address = ask(&ch, &answering);
    let answer = basic::Publish { routing_key: &address, ..Default::default() };
    answering.send_message(answer, &Properties::new().with_correlation_id("1"), b"answer");
    let message = ch.message();
    assert_eq!((message.text().as_str(), message.properties().correlation_id()), ("answer", Some("1")));
    // More than one reply may come, until 4.0 all with the same delivery tag: they can't be acked.
    answering.send_message(answer, &Properties::new(), b"again");
    let tag = if release() >= Release::V4_3 { 2 } else { 1 };
    assert_eq!(ch.next(), format!("basic.deliver replies {tag} /{address}: again"));
}

#[test]
fn a_reply_consumer_must_be_no_ack() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let consume = basic::Consume { queue: REPLIES, consumer_tag: "c", ..Default::default() };
    ch.expect_refusal(&consume, "406 PRECONDITION_FAILED - reply consumer cannot acknowledge (basic.consume)");
}

#[test]
fn a_channel_has_at_most_one_reply_consumer() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    listen(&ch, "c");
    let consume = basic::Consume { queue: REPLIES, consumer_tag: "d", no_ack: true, ..Default::default() };
    ch.expect_refusal(&consume, "406 PRECONDITION_FAILED - reply consumer already set (basic.consume)");
    listen(&ch, "e");
    ch.cancel("e");
    listen(&ch, "f");
}

#[test]
fn a_request_without_a_reply_consumer_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("requests", &[]);
    ch.publish_to_with("requests", "question", &Properties::new().with_reply_to(REPLIES));
    ch.expect_close("406 PRECONDITION_FAILED - fast reply consumer does not exist (basic.publish)");
}

#[test]
fn a_mandatory_reply_without_a_recipient_is_returned() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    ch.cancel("c");
    server.select_confirms();
    server.publish_mandatory("", &address, "too late");
    // Since 4.3 it is dropped without a word.
    if release() < Release::V4_3 {
        assert_eq!(server.next(), format!("basic.return 312 NO_ROUTE /{address}: too late"));
    }
    server.expect_ack(1);
}

#[test]
fn a_delivered_reply_is_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    server.select_confirms();
    let answer = basic::Publish { routing_key: &address, ..Default::default() };
    server.send_message(answer, &Properties::new(), b"in time");
    server.expect_ack(1);
    assert_eq!(ch.message().text(), "in time");
}

#[test]
fn a_delivered_mandatory_reply_may_be_returned_as_well() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    server.select_confirms();
    server.publish_mandatory("", &address, "in time");
    assert_eq!(ch.message().text(), "in time");
    // RabbitMQ 3.10 returns the reply although it was delivered.
    let mut line = server.next();
    if line.starts_with("basic.return 312 NO_ROUTE ") {
        line = server.next();
    }
    assert!(line.starts_with("basic.ack 1"), "{line}");
}

#[test]
fn a_reply_address_can_be_declared() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    let passive = queue::Declare { queue: &address, passive: true, ..Default::default() };
    server.expect_reply(&passive, &format!("queue.declare-ok {address} messages=0 consumers=1"));
    server.expect_reply(
        &queue::Declare { passive: false, ..passive },
        &format!("queue.declare-ok {address} messages=0 consumers=1"),
    );
    ch.close();
    server.expect_refusal(&passive, &format!("404 NOT_FOUND - no queue '{address}' in vhost '/' (queue.declare)"));
}

#[test]
fn the_reply_to_pseudo_queue_always_exists() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let passive = queue::Declare { queue: REPLIES, passive: true, ..Default::default() };
    ch.expect_reply(&passive, "queue.declare-ok amq.rabbitmq.reply-to messages=0 consumers=1");
    ch.expect_reply(
        &queue::Declare { passive: false, ..passive },
        "queue.declare-ok amq.rabbitmq.reply-to messages=0 consumers=1",
    );
}

#[test]
fn a_forged_reply_address_is_unroutable() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.publish_mandatory("", "amq.rabbitmq.reply-to.forged", "m");
    ch.expect("basic.return 312 NO_ROUTE /amq.rabbitmq.reply-to.forged: m");
}
