use std::io::Read;

use hopmq_app::{Bytes, Cbor, Gzip, Json, MsgPack, Out, Reply, Text, Zstd};
use hopmq_broker::inspect::Message;

use crate::{handle, sent};

/// Returns the content type, the content encoding and the body.
fn parts(message: &Message) -> (&str, &str, &[u8]) {
    let properties = &message.properties;
    let (kind, encoding) = (properties.content_type(), properties.content_encoding());
    (kind.unwrap_or_default(), encoding.unwrap_or_default(), &message.body)
}

async fn publish(
    Json(number): Json<u32>,
    json: Out<u32>,
    msgpack: Out<u32, MsgPack>,
    cbor: Out<u32, Cbor>,
) -> hopmq::Result<()> {
    json.publish_to("", "out", &number).await?;
    msgpack.publish_to("", "out", &number).await?;
    cbor.clone().publish_to("", "out", &number).await
}

#[test]
fn each_format_is_published_with_its_content_type() {
    let done = handle(publish, [sent("", "1000")]);
    let out: Vec<_> = done.out.iter().map(parts).collect();
    assert_eq!(
        out,
        [
            ("application/json", "", &b"1000"[..]),
            ("application/msgpack", "", b"\xcd\x03\xe8"),
            ("application/cbor", "", b"\x19\x03\xe8"),
        ]
    );
    assert!(done.out.iter().all(|message| message.properties.delivery_mode() == Some(2)));
}

async fn compress(
    Text(text): Text,
    gzip: Out<String, Gzip>,
    zstd: Out<String, Zstd<MsgPack>>,
) -> hopmq::Result<Reply<Gzip<Text>>> {
    gzip.publish_to("", "out", &text).await?;
    zstd.publish_to("", "out", &text).await?;
    Ok(Reply(Gzip(Text(text))))
}

fn gunzip(body: &[u8]) -> String {
    let mut text = String::new();
    flate2::bufread::MultiGzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

fn unzstd(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(body).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn bodies_are_compressed_if_that_makes_them_shorter() {
    let long = "tea ".repeat(1000);
    let done = handle(compress, [sent("", long.as_str())]);
    let out: Vec<_> = done.out.iter().map(parts).collect();
    let [json, msgpack, text] = out[..] else { panic!("{out:?}") };
    assert_eq!((json.0, json.1, gunzip(json.2)), ("application/json", "gzip", format!("{long:?}")));
    assert_eq!((msgpack.0, msgpack.1), ("application/msgpack", "zstd"));
    assert_eq!(unzstd(msgpack.2), [b"\xda\x0f\xa0", long.as_bytes()].concat());
    assert_eq!((text.0, text.1, gunzip(text.2)), ("text/plain; charset=utf-8", "gzip", long));

    let short = handle(compress, [sent("", "a")]);
    let out: Vec<_> = short.out.iter().map(parts).collect();
    let text = ("text/plain; charset=utf-8", "", &b"a"[..]);
    assert_eq!(out, [("application/json", "", &b"\"a\""[..]), ("application/msgpack", "", b"\xa1a"), text]);
}

#[test]
fn a_reply_is_any_body() {
    let value = || vec![1, 2];
    let replies = [
        handle(move || async move { Reply(value()) }, [sent("", "")]),
        handle(move || async move { Reply(Json(value())) }, [sent("", "")]),
        handle(move || async move { Reply(MsgPack(value())) }, [sent("", "")]),
        handle(move || async move { Reply(Cbor(value())) }, [sent("", "")]),
        handle(move || async move { Reply(Bytes("ab".into())) }, [sent("", "")]),
        handle(move || async move { Reply(Zstd(Cbor(vec![0; 1000]))) }, [sent("", "")]),
    ];
    let replies: Vec<_> = replies.iter().map(|done| parts(&done.out[0])).collect();
    assert_eq!(
        replies[..5],
        [
            ("application/json", "", &b"[1,2]"[..]),
            ("application/json", "", b"[1,2]"),
            ("application/msgpack", "", b"\x92\x01\x02"),
            ("application/cbor", "", b"\x82\x01\x02"),
            ("application/octet-stream", "", b"ab"),
        ]
    );
    assert_eq!((replies[5].0, replies[5].1), ("application/cbor", "zstd"));
    assert_eq!(unzstd(replies[5].2), [&b"\x99\x03\xe8"[..], &[0; 1000]].concat());
}

#[test]
fn what_a_format_can_not_write_is_an_error_of_the_publish_and_rejects_a_reply() {
    type Unwritable = std::collections::BTreeMap<Vec<u8>, u8>;

    async fn publish(out: Out<Unwritable>) -> Result<(), String> {
        let map = Unwritable::from([(vec![1], 1)]);
        out.publish_to("", "out", &map).await.map_err(|error| error.to_string())
    }
    async fn reply() -> Reply<Unwritable> {
        Reply(Unwritable::from([(vec![1], 1)]))
    }
    let done = handle(publish, [sent("", "")]);
    assert!(done.reasons()[0].ends_with("as JSON: key must be a string"), "{:?}", done.dead);
    let done = handle(reply, [sent("", "")]);
    assert_eq!(done.dead, [("encode".to_owned(), "can't write the reply: key must be a string".to_owned())]);
}
