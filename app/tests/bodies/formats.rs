use hopmq_app::{Bytes, Cbor, Json, MsgPack, State, Text};

use crate::{Done, Log, Sent, handle, sent};

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
    name: String,
}

const JSON: &str = r#"{"id":7,"name":"tea"}"#;
/// {"id": 7, "name": "tea"}
const MSGPACK: &[u8] = b"\x82\xa2id\x07\xa4name\xa3tea";
/// [7, "tea"]
const MSGPACK_LIST: &[u8] = b"\x92\x07\xa3tea";
/// {"id": 7, "name": "tea"}
const CBOR: &[u8] = b"\xa2\x62id\x07\x64name\x63tea";
/// {_ "id": 7, "name": (_ "t", "ea")}
const CBOR_OF_UNKNOWN_LENGTH: &[u8] = b"\xbf\x62id\x07\x64name\x7f\x61t\x62ea\xff\xff";

fn log_order(order: &Order, log: &Log) {
    log.add(format!("{} {}", order.id, order.name));
}

async fn json(Json(order): Json<Order>, State(log): State<Log>) {
    log_order(&order, &log);
}

async fn msgpack(MsgPack(order): MsgPack<Order>, State(log): State<Log>) {
    log_order(&order, &log);
}

async fn cbor(Cbor(order): Cbor<Order>, State(log): State<Log>) {
    log_order(&order, &log);
}

fn orders(done: &Done, count: usize) {
    assert_eq!(done.log, vec!["7 tea"; count], "{:?}", done.dead);
    assert!(done.dead.is_empty(), "{:?}", done.dead);
}

#[test]
fn json_is_read_with_each_of_its_content_types() {
    let kinds = ["", "application/json", "Application/JSON; charset=utf-8", "text/json", "application/vnd.order+json"];
    orders(&handle(json, kinds.map(|kind| sent(kind, JSON))), kinds.len());
}

#[test]
fn messagepack_is_read_with_each_of_its_content_types() {
    let kinds = ["", "application/msgpack", "application/x-msgpack", "application/vnd.msgpack", "a/b+msgpack"];
    orders(&handle(msgpack, kinds.map(|kind| sent(kind, MSGPACK))), kinds.len());
    orders(&handle(msgpack, [sent("", MSGPACK_LIST)]), 1);
}

#[test]
fn cbor_is_read_with_each_of_its_content_types() {
    let kinds = ["", "application/cbor", "application/vnd.order+cbor"];
    orders(&handle(cbor, kinds.map(|kind| sent(kind, CBOR))), kinds.len());
    orders(&handle(cbor, [sent("", CBOR_OF_UNKNOWN_LENGTH)]), 1);
}

#[test]
fn another_content_type_is_rejected_and_not_tried_again() {
    for (done, name) in [
        (handle(json, [sent("text/xml", JSON)]), "JSON"),
        (handle(msgpack, [sent("text/xml", MSGPACK)]), "MessagePack"),
        (handle(cbor, [sent("text/xml", CBOR)]), "CBOR"),
    ] {
        assert_eq!(done.classes(), ["content-type"]);
        assert_eq!(done.reasons(), [format!("the content type is \"text/xml\", and the handler reads {name}")]);
        assert!(done.log.is_empty());
    }
}

/// Each way to cut a body short, the body with a byte behind it, and values of other types.
fn wrong(body: &[u8], others: &[&[u8]]) -> Vec<Sent> {
    let cut = (0..body.len()).map(|end| body[..end].to_vec());
    let longer = [[body, b"\x01"].concat()];
    cut.chain(longer).chain(others.iter().map(|other| other.to_vec())).map(|body| sent("", body)).collect()
}

#[test]
fn a_body_that_is_cut_short_or_of_another_type_is_rejected_with_the_place() {
    let cases: [(Done, usize, &str); 3] = [
        {
            let all = wrong(JSON.as_bytes(), &[b"[]", b"null", b"{\"id\":-1,\"name\":\"tea\"}", b"\xff\xfe"]);
            (handle(json, all.clone()), all.len(), "the body is not the JSON of Order: ")
        },
        {
            let all = wrong(MSGPACK, &[b"\x07", b"\xc0", b"\xc1", b"\x82\xa2id\xff\xa4name\xa3tea"]);
            (handle(msgpack, all.clone()), all.len(), "the body is not the MessagePack of Order: ")
        },
        {
            let all = wrong(CBOR, &[b"\x07", b"\xf6", b"\xff", b"\xa2\x62id\x20\x64name\x63tea"]);
            (handle(cbor, all.clone()), all.len(), "the body is not the CBOR of Order: ")
        },
    ];
    for (done, count, text) in cases {
        assert_eq!(done.classes(), vec!["decode"; count]);
        assert!(done.log.is_empty());
        for reason in done.reasons() {
            assert!(reason.starts_with(text) && reason.len() > text.len() + 5, "{reason}");
        }
    }
    let cut = handle(cbor, [sent("", &CBOR[..5])]);
    assert_eq!(cut.reasons(), ["the body is not the CBOR of Order: the body ends early"]);
    let cut = handle(msgpack, [sent("", &MSGPACK[..5]), sent("", [MSGPACK, b"xy"].concat())]);
    assert_eq!(
        cut.reasons(),
        [
            "the body is not the MessagePack of Order: the body ends early",
            "the body is not the MessagePack of Order: 2 bytes follow the value"
        ]
    );
}

async fn any_msgpack(_: MsgPack<serde_json::Value>) {}

async fn any_cbor(_: Cbor<serde_json::Value>) {}

async fn any_json(_: Json<serde_json::Value>) {}

/// Lengths of 2³² and more that nothing follows, and 100,000 lists in each other.
#[test]
fn a_body_that_claims_to_be_long_or_deep_takes_neither_memory_nor_stack() {
    let msgpack =
        [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"];
    let long = b"\xff\xff\xff\xff\xff\xff\xff";
    let cbor = [0x9b, 0xbb, 0x7b, 0x5b].map(|kind| [&[kind, 0x0f][..], long].concat());
    let done = handle(any_msgpack, msgpack.map(|body| sent("", body)).into_iter().chain([sent("", [0x91; 100_000])]));
    assert_eq!(done.classes(), ["decode"; 5]);
    let done = handle(any_cbor, cbor.map(|body| sent("", body)).into_iter().chain([sent("", [0x81; 100_000])]));
    assert_eq!(done.classes(), ["decode"; 5]);
    let done = handle(any_json, [sent("", [b'['; 100_000])]);
    assert_eq!(done.classes(), ["decode"]);
}

async fn optional(json: Option<Json<Order>>, State(log): State<Log>) {
    log.add(json.map_or("none".to_owned(), |Json(order)| order.name));
}

#[test]
fn an_optional_body_is_none_only_if_it_is_empty() {
    let done = handle(optional, [sent("", ""), sent("", JSON), sent("", "{"), sent("text/xml", JSON)]);
    assert_eq!(done.log, ["none", "tea"]);
    assert_eq!(done.classes(), ["decode", "content-type"]);
}

async fn text_and_bytes(text: Text, Bytes(bytes): Bytes, State(log): State<Log>) {
    log.add(format!("{} {}", text.0, bytes.len()));
}

#[test]
fn text_must_be_utf8_and_bytes_are_anything() {
    let done = handle(text_and_bytes, [sent("image/png", "ö"), sent("", b"\xff".to_vec())]);
    assert_eq!(done.log, ["ö 2"]);
    assert_eq!(done.classes(), ["decode"]);
    assert!(done.reasons()[0].starts_with("the body is no text: invalid utf-8"), "{:?}", done.dead);
}
