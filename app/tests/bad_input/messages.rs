//! Messages that can't be read, or that leave no room for what the app adds.

use std::time::Duration;

use hopmq::{FieldTable, Properties};
use hopmq_app::test::TestApp;
use hopmq_app::{App, Backoff, Header, HeaderName, Json, Queue, Reject, Reply, Retry, Text};

use hopmq_broker::Permissions;

use crate::{Order, test};

async fn on_order(Json(order): Json<Order>) {
    assert_ne!(order.id, 0);
}

struct User;

impl HeaderName for User {
    const NAME: &'static str = "x-user";
    type Value = i64;
}

/// Asserts what the only dead letter of `orders` says.
#[track_caller]
fn assert_dead(t: &TestApp, class: &str, text: &str) {
    let dead = t.queue("orders.dlq").assert_len(1).remove(0);
    assert_eq!(dead.error_class(), Some(class), "{dead:?}");
    let error = dead.error().unwrap_or_default();
    assert!(error.contains(text), "{error:?} does not say {text:?}");
    assert_eq!(dead.attempt(), 1);
    assert_eq!(t.handled("orders").len(), 1, "it is not tried again");
}

#[test]
fn a_body_that_cannot_be_decoded_goes_to_the_dead_letters_with_the_place_of_the_error() {
    let t = test().start(App::new(()).route(Queue::new("orders").retry(Backoff::fixed(Duration::ZERO)), on_order));
    t.publish_raw("", "orders", &Properties::new(), "{\"id\":\"seven\"}");
    assert_dead(
        &t,
        "decode",
        "the body is not the JSON of Order: invalid type: string \"seven\", expected u32 at line 1",
    );
    t.stop();
}

#[test]
fn a_body_that_is_no_text_goes_to_the_dead_letters() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |_: Text| {}));
    t.publish_raw("", "orders", &Properties::new(), vec![b'a', 0xff]);
    assert_dead(&t, "decode", "the body is no text: invalid utf-8 sequence of 1 bytes from index 1");
    t.stop();
}

#[test]
fn another_content_type_goes_to_the_dead_letters() {
    let t = test().start(App::new(()).route(Queue::new("orders"), on_order));
    let properties = Properties::new().with_content_type("text/xml");
    t.publish_raw("", "orders", &properties, "{\"id\":7}");
    assert_dead(&t, "content-type", "the content type is \"text/xml\", and the handler reads JSON");
    t.stop();
}

#[test]
fn a_header_of_another_type_goes_to_the_dead_letters() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |_: Header<User>| {}));
    t.publish_raw("", "orders", &Properties::new().with_header("x-user", "seven"), "");
    assert_dead(&t, "header", "the header \"x-user\" is \"seven\", not an integer of 64 bits");
    t.stop();
}

#[test]
fn a_missing_header_goes_to_the_dead_letters() {
    let t = test().start(App::new(()).route(Queue::new("orders"), async |_: Header<User>| {}));
    t.publish_raw("", "orders", &Properties::new(), "");
    assert_dead(&t, "header", "the header \"x-user\" is missing");
    t.stop();
}

#[test]
fn an_attempt_header_that_is_nonsense_counts_as_the_first() {
    for nonsense in [i64::MIN, -1, 0, i64::MAX] {
        let queue = Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(2));
        let t = test().start(App::new(()).route(queue, async || Retry::because("no")));
        t.publish_raw("", "orders", &Properties::new().with_header("x-hopmq-attempt", nonsense), "");
        assert_eq!(t.queue("orders.dlq").assert_len(1)[0].attempt(), 2, "{nonsense}");
        t.stop();
    }
}

#[test]
fn a_body_of_many_frames_is_moved_whole() {
    let body = vec![b'x'; 3_000_000];
    let t = test().start(App::new(()).route(Queue::new("orders"), async || Reject::because("too big")));
    t.publish_raw("", "orders", &Properties::new(), body.clone());
    assert_eq!(t.queue("orders.dlq").assert_len(1)[0].body(), body);
    t.stop();
}

/// Returns properties whose content header leaves `room` bytes in a frame of 131,072 bytes.
fn nearly_full(room: usize) -> Properties {
    let with = |size: usize| {
        Properties::new().with_headers(&FieldTable::from_iter([("keep", "small"), ("big", &"y".repeat(size))]))
    };
    // A frame has 8 bytes around its payload, and a content header 14 before the list.
    let empty = with(0).as_bytes().len();
    with(131_072 - 8 - 14 - empty - room)
}

#[test]
fn headers_that_leave_no_room_in_a_frame_do_not_keep_a_message_from_being_moved() {
    for room in [0, 1, 30, 60, 100, 200, 300, 600, 2000, 3000] {
        let text = "a long story. ".repeat(200);
        let t = test().start(App::new(()).route(Queue::new("orders").quorum(), move || {
            let text = text.clone();
            async move { Reject::because(text) }
        }));
        t.publish_raw("", "orders", &nearly_full(room), "a pizza");
        let dead = t.queue("orders.dlq").assert_len(1).remove(0);
        assert_eq!(dead.body(), b"a pizza");
        assert_eq!(dead.header("keep").and_then(|value| value.as_str()), Some("small"), "{room}");
        if room >= 60 {
            assert!(dead.header("big").is_some(), "with {room} bytes to spare, all headers fit");
            assert_eq!(dead.error_class(), Some("reject"), "{room}");
        }
        if room >= 300 {
            assert!(dead.error().is_some_and(|error| error.starts_with("a long story")), "{room}");
        }
        t.advance("1m");
        assert_eq!(t.handled("orders").len(), 1, "it does not go round");
        t.assert_idle();
        t.stop();
    }
}

#[test]
fn retries_of_a_message_with_full_headers_count_their_attempts() {
    let queue = Queue::new("orders").quorum().retry(Backoff::fixed(Duration::from_secs(1)).attempts(3));
    let t = test().start(App::new(()).route(queue, async || Retry::because("no ".repeat(2000))));
    t.publish_raw("", "orders", &nearly_full(10), "a pizza");
    t.advance("10s");
    assert_eq!(t.queue("orders.dlq").assert_len(1)[0].attempt(), 3);
    assert_eq!(t.handled("orders").len(), 3);
    t.stop();
}

#[test]
fn the_user_id_of_another_user_does_not_keep_a_message_from_being_moved() {
    let t = test().open();
    let broker = t.broker().expect("it is embedded");
    broker.add_user("alice", "secret").expect("a user");
    broker.set_permissions("alice", "/", Permissions::ALL).expect("the user exists");
    t.declare(Queue::new("orders"));
    let alice = t.connect(&hopmq::Connection::builder().credentials("alice", "secret"));
    let published = t.block_on(async {
        let channel = alice.channel().await?;
        let properties = Properties::new().with_user_id("alice");
        channel.publish("", "orders", "a pizza").properties(&properties).confirm().await?;
        alice.close().await
    });
    published.expect("alice may publish as herself");
    t.run(App::new(()).route(Queue::new("orders"), async || Reject::because("no")));
    let dead = t.queue("orders.dlq").assert_len(1).remove(0);
    assert_eq!(dead.properties().user_id(), None);
    t.stop();
}

#[test]
fn a_reply_that_nobody_awaits_is_dropped_and_the_message_is_done() {
    for reply_to in ["gone", "amq.rabbitmq.reply-to.nonsense"] {
        let t =
            test().start(App::new(()).route(Queue::new("orders"), async |Json(order): Json<Order>| Reply(order.id)));
        let asked = Properties::new().with_reply_to(reply_to).with_correlation_id("1");
        t.publish_raw("", "orders", &asked, "{\"id\":7}");
        t.publish("", "orders", &Order { id: 8 });
        assert_eq!(t.handled("orders").len(), 2, "{reply_to}");
        t.assert_idle();
        t.stop();
    }
}
