//! Every argument of queues with every kind of value, and what a repeated declaration must repeat. What a broker
//! answers is in `queue_arguments.txt`.

use super::prelude::*;
use hopmq_proto::FieldTable;
use hopmq_tests::{Release, release};

/// The AMQP type of each value, and its content.
const VALUES: &[&str] = &[
    "V",
    "t0",
    "t1",
    "b1",
    "B1",
    "s1",
    "u1",
    "I0",
    "I1",
    "I2",
    "I3",
    "I255",
    "I256",
    "I-1",
    "I-2",
    "i1",
    "l1",
    "l315360000000",
    "l315360000001",
    "l9223372036854775807",
    "f1.5",
    "d1.0",
    "D",
    "T1",
    "A",
    "F",
    "x1",
    "S",
    "S1",
    "Snonsense",
    "Sdefault",
    "Slazy",
    "Seager",
    "Sdrop-head",
    "Sreject-publish",
    "Sreject-publish-dlx",
    "Sat-most-once",
    "Sat-least-once",
    "Sclient-local",
    "Sbalanced",
    "Sleast-leaders",
    "Srandom",
    "Smin-masters",
    "Sclassic",
    "Squorum",
];

/// Returns a value, and RabbitMQ's name for its type.
fn value(text: &str) -> (Value<'_>, &'static str) {
    let (kind, content) = text.split_at(1);
    let number = || content.parse::<i64>().expect("the content is a number");
    match kind {
        "V" => (Value::Void, "void"),
        "t" => (Value::Bool(content == "1"), "bool"),
        "b" => (Value::I8(number() as i8), "byte"),
        "B" => (Value::U8(number() as u8), "unsignedbyte"),
        "s" => (Value::I16(number() as i16), "short"),
        "u" => (Value::U16(number() as u16), "unsignedshort"),
        "I" => (Value::I32(number() as i32), "signedint"),
        "i" => (Value::U32(number() as u32), "unsignedint"),
        "l" => (Value::I64(number()), "long"),
        "f" => (Value::F32(content.parse().expect("a number")), "float"),
        "d" => (Value::F64(content.parse().expect("a number")), "double"),
        "D" => (Value::Decimal { scale: 0, value: 1 }, "decimal"),
        "T" => (Value::Timestamp(number() as u64), "timestamp"),
        "A" => (Value::Array(FieldArray::<&[u8]>::default()), "array"),
        "F" => (Value::Table(FieldTable::<&[u8]>::default()), "table"),
        "x" => (Value::Bytes(content.as_bytes()), "binary"),
        "S" => (Value::Str(content.as_bytes()), "longstr"),
        other => panic!("{other} is no type"),
    }
}

/// The answers for one argument of one type of queue.
struct Block<'a> {
    queue: &'a str,
    argument: &'a str,
    answers: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Block<'a> {
    /// Returns the values, each with its answer.
    fn cases(&self) -> Vec<(&'a str, &'a str)> {
        let listed = |(answer, values): &(&'a str, Vec<&'a str>)| {
            let answer = *answer;
            values.iter().filter(|value| **value != "*").map(move |value| (*value, answer)).collect::<Vec<_>>()
        };
        let mut cases: Vec<_> = self.answers.iter().flat_map(listed).collect();
        if let Some((answer, _)) = self.answers.iter().find(|(_, values)| values.contains(&"*")) {
            let rest: Vec<_> =
                VALUES.iter().filter(|value| !cases.iter().any(|(listed, _)| listed == *value)).collect();
            cases.extend(rest.into_iter().map(|value| (*value, *answer)));
        }
        cases
    }
}

/// Returns the blocks for the release under test.
fn blocks() -> Vec<Block<'static>> {
    let release = match release() {
        old if old < Release::V4_0 => "3",
        new if new < Release::V4_3 => "4.0",
        _ => "4.3",
    };
    let is_embedded = std::env::var_os("HOPMQ_BROKER").is_some();
    let of_broker = format!("{}-{release}", if is_embedded { "here" } else { "rabbitmq" });
    let mut blocks: Vec<(bool, Block<'_>)> = Vec::new();
    for line in include_str!("queue_arguments.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(line) = line.strip_prefix("  ") {
            let (answer, values) = line.split_once(" | ").expect("an answer and its values");
            let (_, block) = blocks.last_mut().expect("a block before its answers");
            block.answers.push((answer, values.split(' ').collect()));
            continue;
        }
        let (subject, releases) = line.split_once(": ").expect("a subject and its releases");
        let (queue, argument) = subject.split_once(' ').expect("a type of queue and an argument");
        let applies = releases.split(' ').any(|name| name == release || name == of_broker);
        blocks.push((applies, Block { queue, argument, answers: Vec::new() }));
    }
    blocks.into_iter().filter(|(applies, _)| *applies).map(|(_, block)| block).collect()
}

/// Returns the arguments of a declaration with this type of queue, and this value of an argument.
fn arguments(queue: &str, argument: &str, text: Option<&str>) -> FieldTable {
    let mut table = FieldTable::new();
    if queue != "none" {
        table.insert("x-queue-type", queue);
    }
    if argument == "x-dead-letter-routing-key" {
        table.insert("x-dead-letter-exchange", "");
    }
    if let Some(text) = text {
        table.insert(argument, value(text).0);
    }
    table
}

/// Declares a durable queue `q`. Returns `ok`, or the code and the text of the refusal.
fn declare(ch: &Channel<'_>, arguments: &FieldTable) -> String {
    let name = ch.name("q");
    let arguments = arguments.as_ref_table();
    let line = ch.ask(&queue::Declare { queue: &name, durable: true, arguments, ..Default::default() });
    match line.strip_prefix("channel.close ") {
        None if line.starts_with("queue.declare-ok") => "ok".to_owned(),
        None => line,
        Some(reason) => {
            ch.send(&channel::CloseOk {});
            ch.expect_reply(&channel::Open {}, "channel.open-ok");
            reason.trim_end_matches(" (queue.declare)").replacen("PRECONDITION_FAILED - ", "", 1)
        }
    }
}

fn delete(ch: &Channel<'_>) {
    let name = ch.name("q");
    let line = ch.ask(&queue::Delete { queue: &name, ..Default::default() });
    assert!(line.starts_with("queue.delete-ok"), "{line}");
}

/// Tries every value of every argument of these queues.
fn walk(queue: &str) {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let mut faults = Vec::new();
    for block in blocks().into_iter().filter(|block| block.queue == queue) {
        for (text, answer) in block.cases() {
            let arguments = arguments(queue, block.argument, Some(text));
            if let Some(reason) = answer.strip_prefix("541 ") {
                let peer = stage.connect();
                let name = ch.name("q");
                let arguments = arguments.as_ref_table();
                peer.channel(1).send(&queue::Declare { queue: &name, durable: true, arguments, ..Default::default() });
                let close = peer.next();
                assert!(close.starts_with(&format!("connection.close 541 INTERNAL_ERROR - {reason}")), "{close}");
                continue;
            }
            let expected = answer
                .replace("ARG", &format!("arg '{}'", block.argument))
                .replace("QUEUE", "queue 'q' in vhost '/'")
                .replace("TYPE", value(text).1)
                .replace("VALUE", &text[1..]);
            let found = declare(&ch, &arguments);
            if found == "ok" {
                delete(&ch);
            }
            if found != expected {
                faults.push(format!("{queue} {} {text}: {found}, not {expected}", block.argument));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_argument_of_a_classic_queue_takes_the_values_that_rabbitmq_takes() {
    walk("classic");
}

#[test]
fn every_argument_of_a_quorum_queue_takes_the_values_that_rabbitmq_takes() {
    walk("quorum");
}

#[test]
fn the_type_of_a_queue_takes_the_values_that_rabbitmq_takes() {
    walk("none");
}

/// Two values of each argument that both types of queues have, which a repeated declaration must repeat.
const EQUAL: &[[&str; 3]] = &[
    ["x-expires", "I500000", "I600000"],
    ["x-message-ttl", "I500000", "I600000"],
    ["x-dead-letter-exchange", "Sa", "Sb"],
    ["x-dead-letter-routing-key", "Sa", "Sb"],
    ["x-max-length", "I5", "I6"],
    ["x-max-length-bytes", "I5", "I6"],
    ["x-overflow", "Sreject-publish", "Sdrop-head"],
    ["x-single-active-consumer", "t1", "t0"],
];
const EQUAL_CLASSIC: &[[&str; 3]] = &[["x-max-priority", "I5", "I6"], ["x-queue-mode", "Slazy", "Sdefault"]];
const EQUAL_QUORUM: &[[&str; 3]] = &[
    ["x-dead-letter-strategy", "Sat-most-once", "Sat-least-once"],
    ["x-max-in-memory-length", "I5", "I6"],
    ["x-max-in-memory-bytes", "I5", "I6"],
    ["x-quorum-initial-group-size", "I1", "I3"],
    ["x-queue-leader-locator", "Sclient-local", "Sbalanced"],
    ["x-delivery-limit", "I5", "I6"],
];
/// Those that need not be repeated.
const FREE: &[[&str; 3]] = &[["x-consumer-timeout", "I500000", "I600000"], ["x-unknown", "I5", "I6"]];

/// Returns a value as RabbitMQ shows it.
fn shown(text: &str) -> String {
    if text.starts_with('t') { (&text[1..] == "1").to_string() } else { text[1..].to_owned() }
}

/// Declares a queue with an argument, and again with another value of it, or without it.
fn repeat(ch: &Channel<'_>, queue: &str, [argument, first, other]: [&str; 3], is_free: bool) {
    let describe = |text: Option<&str>| match text {
        None => "none".to_owned(),
        Some(text) => format!("the value '{}' of type '{}'", shown(text), value(text).1),
    };
    let wide = first.replacen('I', "l", 1);
    let first = Some(first);
    for (before, after) in
        [(first, first), (first, Some(&*wide)), (first, Some(other)), (first, None), (None, first), (None, Some(other))]
    {
        let reason = match (before, after) {
            (Some(before), Some(after)) if before[1..] == after[1..] => None,
            (Some(before), Some(after)) => Some((format!("'{}'", shown(after)), format!("'{}'", shown(before)))),
            _ => Some((describe(after), describe(before))),
        };
        let expected = match reason {
            Some((received, current)) if !is_free => format!(
                "406 inequivalent arg '{argument}' for queue 'q' in vhost '/': received {received} but current is \
                 {current}"
            ),
            _ => "ok".to_owned(),
        };
        assert_eq!(declare(ch, &arguments(queue, argument, before)), "ok");
        let found = declare(ch, &arguments(queue, argument, after));
        assert_eq!(found, expected, "{queue} {argument} {before:?} {after:?}");
        delete(ch);
    }
}

#[test]
fn a_repeated_declaration_must_repeat_the_arguments_that_its_type_of_queue_has() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let mut classic = vec![];
    if release() < Release::V4_3 {
        classic.push(["x-queue-version", "I1", "I2"]);
        classic.push(["x-queue-master-locator", "Sclient-local", "Smin-masters"]);
    }
    if release() >= Release::V4_0 {
        classic.push(["x-queue-leader-locator", "Sclient-local", "Sbalanced"]);
    }
    for argument in EQUAL.iter().chain(EQUAL_CLASSIC).chain(&classic) {
        repeat(&ch, "classic", *argument, false);
    }
    for argument in EQUAL.iter().chain(EQUAL_QUORUM) {
        repeat(&ch, "quorum", *argument, false);
    }
    for queue in ["classic", "quorum"] {
        FREE.iter().for_each(|argument| repeat(&ch, queue, *argument, true));
    }
}

#[test]
fn a_queue_without_a_type_is_a_classic_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let of = |kind: Option<&str>| arguments("none", "x-queue-type", kind);
    let [none, classic, quorum] = [of(None), of(Some("Sclassic")), of(Some("Squorum"))];
    let refused = |received: &str, current: &str| {
        let (received, current) = match release() >= Release::V4_0 {
            true => (format!("'{received}'"), format!("'{current}'")),
            false => {
                let shown = |kind: &str| match kind {
                    "classic" => "none".to_owned(),
                    other => format!("the value '{other}' of type 'longstr'"),
                };
                (shown(received), shown(current))
            }
        };
        format!(
            "406 inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received {received} but current is \
             {current}"
        )
    };
    for (before, after) in [(&none, &classic), (&classic, &none)] {
        assert_eq!((declare(&ch, before), declare(&ch, after)), ("ok".to_owned(), "ok".to_owned()));
        delete(&ch);
    }
    assert_eq!((declare(&ch, &none), declare(&ch, &quorum)), ("ok".to_owned(), refused("quorum", "classic")));
    delete(&ch);
    assert_eq!((declare(&ch, &quorum), declare(&ch, &none)), ("ok".to_owned(), refused("classic", "quorum")));
    delete(&ch);
}

#[test]
fn a_repeated_declaration_may_have_arguments_that_its_type_of_queue_does_not_have() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    assert_eq!(declare(&ch, &FieldTable::new()), "ok");
    assert_eq!(declare(&ch, &arguments("none", "x-max-age", Some("S1"))), "ok");
    delete(&ch);
}

#[test]
fn values_are_checked_before_arguments_that_the_type_of_queue_does_not_have() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let both = arguments("classic", "x-message-ttl", Some("I-1")).with("x-max-age", "1D");
    assert_eq!(declare(&ch, &both), "406 invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}");
}

#[test]
fn a_quorum_queue_can_not_be_named_by_the_broker() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for arguments in [arguments("quorum", "", None), arguments("quorum", "x-max-priority", Some("I1"))] {
        let arguments = arguments.as_ref_table();
        ch.expect_refusal(
            &queue::Declare { durable: true, arguments, ..Default::default() },
            "406 PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue \
             (queue.declare)",
        );
    }
}

#[test]
fn a_quorum_queue_can_not_be_deleted_on_a_condition() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    assert_eq!(declare(&peer.channel(1), &arguments("quorum", "", None)), "ok");
    for (if_unused, if_empty, flag) in
        [(true, false, "if-unused"), (false, true, "if-empty"), (true, true, "if-unused")]
    {
        let peer = stage.connect();
        let ch = peer.channel(1);
        let name = ch.name("q");
        ch.send(&queue::Delete { queue: &name, if_unused, if_empty, nowait: false });
        peer.expect_connection_close(&format!(
            "540 NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations with {flag} flag set \
             are not supported by quorum queues (queue.delete)"
        ));
    }
    let ch = peer.unopened_channel(1);
    let missing = ch.name("missing");
    ch.expect_reply(&queue::Delete { queue: &missing, if_unused: true, ..Default::default() }, "queue.delete-ok 0");
}

#[test]
fn basic_get_is_refused_on_a_quorum_queue_with_a_single_active_consumer() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    assert_eq!(declare(&ch, &arguments("quorum", "x-single-active-consumer", Some("t1"))), "ok");
    for no_ack in [false, true] {
        let name = ch.name("q");
        ch.expect_refusal(
            &basic::Get { queue: &name, no_ack },
            "405 RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are \
             not supported by quorum queues with single active consumer (basic.get)",
        );
    }
    ch.queue("classic", &[("x-single-active-consumer", true.into())]);
    assert_eq!(ch.get("classic"), "basic.get-empty");
}

#[test]
fn a_quorum_queue_ignores_that_a_consumer_is_exclusive() {
    let stage = Stage::new();
    stage.delete_at_end(&["q", "single"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let single = [("x-queue-type", Value::from("quorum")), ("x-single-active-consumer", true.into())];
    ch.durable_queue("q", &[("x-queue-type", "quorum".into())]);
    ch.durable_queue("single", &single);
    for (stem, tags) in [("q", ["a", "b", "c"]), ("single", ["d", "e", "f"])] {
        let name = ch.name(stem);
        for (consumer_tag, exclusive) in tags.into_iter().zip([false, true, false]) {
            let consume = basic::Consume { queue: &name, consumer_tag, exclusive, ..Default::default() };
            ch.expect_reply(&consume, &format!("basic.consume-ok {consumer_tag}"));
        }
    }
    for (body, tag) in [("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")] {
        ch.publish_to("q", body);
        let line = ch.next();
        assert!(line.starts_with(&format!("basic.deliver {tag} ")) && line.ends_with(body), "{line}");
    }
}

/// Consumes with an argument. Returns `ok`, or the reason of the refusal.
fn consume(ch: &Channel<'_>, argument: &str, text: &str) -> String {
    let name = ch.name("q");
    let arguments = table(&[(argument, value(text).0)]);
    let arguments = arguments.as_ref_table();
    let line = ch.ask(&basic::Consume { queue: &name, consumer_tag: "c", arguments, ..Default::default() });
    match line.strip_prefix("channel.close ") {
        None if line == "basic.consume-ok c" => {
            ch.cancel("c");
            "ok".to_owned()
        }
        None => line,
        Some(reason) => {
            ch.send(&channel::CloseOk {});
            ch.expect_reply(&channel::Open {}, "channel.open-ok");
            let reason = reason.trim_end_matches(" (basic.consume)");
            reason.replace(&format!("invalid arg '{argument}' for queue 'q' in vhost '/'"), "invalid")
        }
    }
}

#[test]
fn the_arguments_of_consumers_are_checked() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let is_4 = release() >= Release::V4_0;
    for queue in ["classic", "quorum"] {
        assert_eq!(declare(&ch, &arguments(queue, "", None)), "ok");
        let unsupported = format!("406 PRECONDITION_FAILED - invalid of queue type rabbit_{queue}_queue");
        let of_type = |reason: &str| format!("406 PRECONDITION_FAILED - invalid: {reason}");
        for text in ["I1", "I-1", "l9223372036854775807", "B1"] {
            assert_eq!(consume(&ch, "x-priority", text), "ok", "{text}");
        }
        for text in ["S1", "f1.5", "T1", "V", "t1"] {
            let reason = of_type(&format!("\"expected integer, got {}\"", value(text).1));
            assert_eq!(consume(&ch, "x-priority", text), reason, "{text}");
        }
        for text in ["t1", "t0", "Syes", "I1"] {
            let expected = match (is_4, queue) {
                (false, "quorum") => unsupported.clone(),
                (false, _) if !text.starts_with('t') => of_type(&format!("{{unacceptable_type,{}}}", value(text).1)),
                _ => "ok".to_owned(),
            };
            assert_eq!(consume(&ch, "x-cancel-on-ha-failover", text), expected, "{queue} {text}");
        }
        for text in ["Sfirst", "I1", "T1", "Snonsense", "t1"] {
            assert_eq!(consume(&ch, "x-stream-offset", text), unsupported, "{text}");
        }
        // Before 3.13, RabbitMQ does not know them.
        for argument in
            ["x-stream-filter", "x-stream-match-unfiltered"].into_iter().filter(|_| release() >= Release::V3_13)
        {
            assert_eq!(consume(&ch, argument, "S1"), unsupported, "{argument}");
        }
        assert_eq!(consume(&ch, "x-unknown", "S1"), "ok");
        delete(&ch);
    }
}
