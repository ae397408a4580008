//! Direct reply-to: answers without a queue.

use super::prelude::*;

const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Starts a consumer of answers.
fn listen(ch: &Channel<'_>, tag: &str) {
    let consume = basic::Consume { queue: REPLIES, consumer_tag: tag, no_ack: true, ..Default::default() };
    ch.answers(&consume, &format!("basic.consume-ok {tag}"));
}

/// Asks for an answer, and returns the address that the server sees.
fn ask(ch: &Channel<'_>, server: &Channel<'_>) -> String {
    ch.to_with("requests", "question", &Properties::new().with_reply_to(REPLIES));
    server.has("requests", 1);
    let question = server.got("requests");
    let address = question.properties().reply_to().expect("it says where to").to_owned();
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() > 30, "{address}");
    address
}

#[test]
fn an_answer_goes_to_who_asked() {
    let stage = Stage::new();
    let (client, server) = (stage.connect(), stage.connect());
    let (ch, answering) = (client.channel(1), server.channel(1));
    let requests = queue::Declare { queue: &ch.name("requests"), auto_delete: true, ..Default::default() };
    stage.leaves(&["requests"]);
    ch.answers(&requests, "queue.declare-ok requests messages=0 consumers=0");
    listen(&ch, "replies");
    let address = ask(&ch, &answering);
    let answer = basic::Publish { routing_key: &address, ..Default::default() };
    answering.publishes(answer, &Properties::new().with_correlation_id("1"), b"answer");
    let message = ch.message();
    assert_eq!((message.text().as_str(), message.properties().correlation_id()), ("answer", Some("1")));
    // More than one answer may come, and all have the same number: nobody can ack them.
    answering.publishes(answer, &Properties::new(), b"again");
    assert_eq!(ch.next(), format!("basic.deliver replies 1 /{address}: again"));
}

#[test]
fn the_consumer_of_answers_takes_no_acks() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let consume = basic::Consume { queue: REPLIES, consumer_tag: "c", ..Default::default() };
    ch.refuses(&consume, "406 PRECONDITION_FAILED - reply consumer cannot acknowledge (basic.consume)");
}

#[test]
fn there_is_one_consumer_of_answers_on_a_channel() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    listen(&ch, "c");
    let consume = basic::Consume { queue: REPLIES, consumer_tag: "d", no_ack: true, ..Default::default() };
    ch.refuses(&consume, "406 PRECONDITION_FAILED - reply consumer already set (basic.consume)");
    listen(&ch, "e");
    ch.cancel("e");
    listen(&ch, "f");
}

#[test]
fn nobody_asks_without_a_consumer_of_answers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("requests", &[]);
    ch.to_with("requests", "question", &Properties::new().with_reply_to(REPLIES));
    ch.closes("406 PRECONDITION_FAILED - fast reply consumer does not exist (basic.publish)");
}

#[test]
fn an_answer_to_nobody_is_returned_if_it_is_mandatory() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    ch.cancel("c");
    server.confirms();
    server.mandatory("", &address, "too late");
    assert_eq!(server.next(), format!("basic.return 312 NO_ROUTE /{address}: too late"));
    server.acked(1);
}

#[test]
fn an_answer_that_arrives_is_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    server.confirms();
    let answer = basic::Publish { routing_key: &address, ..Default::default() };
    server.publishes(answer, &Properties::new(), b"in time");
    server.acked(1);
    assert_eq!(ch.message().text(), "in time");
}

#[test]
fn a_mandatory_answer_arrives_and_may_be_returned_all_the_same() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    server.confirms();
    server.mandatory("", &address, "in time");
    assert_eq!(ch.message().text(), "in time");
    // RabbitMQ 3.10 does not see that it arrived.
    let mut line = server.next();
    if line.starts_with("basic.return 312 NO_ROUTE ") {
        line = server.next();
    }
    assert!(line.starts_with("basic.ack 1"), "{line}");
}

#[test]
fn an_address_can_be_looked_for() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, server) = (peer.channel(1), peer.channel(2));
    ch.queue("requests", &[]);
    listen(&ch, "c");
    let address = ask(&ch, &server);
    let passive = queue::Declare { queue: &address, passive: true, ..Default::default() };
    server.answers(&passive, &format!("queue.declare-ok {address} messages=0 consumers=1"));
    server.answers(
        &queue::Declare { passive: false, ..passive },
        &format!("queue.declare-ok {address} messages=0 consumers=1"),
    );
    ch.close();
    server.refuses(&passive, &format!("404 NOT_FOUND - no queue '{address}' in vhost '/' (queue.declare)"));
}

#[test]
fn the_name_of_the_answers_is_always_there() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let passive = queue::Declare { queue: REPLIES, passive: true, ..Default::default() };
    ch.answers(&passive, "queue.declare-ok amq.rabbitmq.reply-to messages=0 consumers=1");
    ch.answers(
        &queue::Declare { passive: false, ..passive },
        "queue.declare-ok amq.rabbitmq.reply-to messages=0 consumers=1",
    );
}

#[test]
fn a_forged_address_finds_nobody() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.mandatory("", "amq.rabbitmq.reply-to.forged", "m");
    ch.expect("basic.return 312 NO_ROUTE /amq.rabbitmq.reply-to.forged: m");
}
