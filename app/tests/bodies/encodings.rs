use std::io::Write;

use hopmq::Message;
use hopmq_app::{Bytes, Json, Queue, State, Text};

use crate::{Log, handle, handle_on, sent};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}

/// "hello " twenty times, as `zstd -19 --check` writes it from a pipe: a window of 8 MiB, and a checksum.
const ZSTD_OF_A_PIPE: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\x6d\x00\x00\x30hello \x01\x00\x2f\x69\x29\x02\x7a\x3e\x7c\x28";
/// The same, as `gzip -9n` writes it.
const GZIP_OF_A_PIPE: &[u8] =
    b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcb\x48\xcd\xc9\xc9\x57\xc8\xa0\x3b\x09\0\x2f\xfa\xf8\x48\x78\0\0\0";

async fn text(Text(text): Text, Bytes(bytes): Bytes, message: Message, State(log): State<Log>) {
    assert_eq!(bytes, text.as_bytes());
    log.add(format!("{} {}", text.len(), message.body().len()));
}

#[test]
fn compressed_bodies_are_decompressed_for_each_extractor_of_the_body() {
    let body = "hello ".repeat(1000);
    let (gzip, zstd) = (gzip(body.as_bytes()), zstd(body.as_bytes()));
    let all = [
        ("gzip", &gzip),
        ("GZIP", &gzip),
        ("x-gzip", &gzip),
        ("zstd", &zstd),
        ("gzip:UTF-8", &gzip),
        ("utf-8, zstd", &zstd),
    ];
    let done = handle(text, all.map(|(encoding, body)| sent("", body.clone()).encoded(encoding)));
    assert!(done.dead.is_empty(), "{:?}", done.dead);
    assert_eq!(done.log, all.map(|(_, sent)| format!("6000 {}", sent.len())));
}

#[test]
fn several_members_or_frames_are_one_body() {
    let gzip = [gzip(b"a"), gzip(b"b")].concat();
    let skipped = b"\x50\x2a\x4d\x18\x02\x00\x00\x00xy".to_vec();
    let zstd = [zstd(b"a"), skipped, zstd(b"bc")].concat();
    let done = handle(text, [sent("", gzip).encoded("gzip"), sent("", zstd).encoded("zstd")]);
    assert!(done.dead.is_empty(), "{:?}", done.dead);
    assert!(done.log[0].starts_with("2 ") && done.log[1].starts_with("3 "), "{:?}", done.log);
}

#[test]
fn a_character_set_is_no_compression() {
    let encodings = ["utf-8", "UTF8", "binary", "identity", "us-ascii"];
    let done = handle(text, encodings.map(|encoding| sent("", "abc").encoded(encoding)));
    assert_eq!(done.log, ["3 3"; 5]);
}

#[test]
fn another_encoding_is_rejected() {
    let done = handle(text, [sent("", "abc").encoded("br"), sent("", gzip(&gzip(b"a"))).encoded("gzip, gzip")]);
    assert_eq!(
        done.reasons(),
        [
            "the content encoding is \"br\", and only gzip and zstd are decompressed",
            "the content encoding is \"gzip, gzip\", and bodies are decompressed once"
        ]
    );
    assert_eq!(done.classes(), ["content-encoding"; 2]);
}

#[test]
fn a_compressed_body_that_is_cut_short_or_changed_is_rejected() {
    for (encoding, body) in [("gzip", gzip(b"hello hello hello")), ("zstd", zstd(b"hello hello hello"))] {
        let cut = (0..body.len()).map(|end| body[..end].to_vec());
        let plain = b"hello".to_vec();
        let behind = [&body[..], b"x"].concat();
        let bodies: Vec<_> = cut.chain([plain, behind]).collect();
        let count = bodies.len();
        let done = handle(text, bodies.into_iter().map(|body| sent("", body).encoded(encoding)));
        assert!(done.log.is_empty(), "{encoding}: {:?}", done.log);
        assert_eq!(done.classes(), vec!["decode"; count]);
        let start = format!("the body is not {encoding}, or ends early: ");
        assert!(done.reasons().iter().all(|reason| reason.starts_with(&start)), "{:?}", done.dead);
    }
}

#[test]
fn what_other_programs_compressed_is_read_and_a_checksum_that_differs_is_found() {
    let both = [("gzip", GZIP_OF_A_PIPE), ("zstd", ZSTD_OF_A_PIPE)];
    let done = handle(text, both.map(|(encoding, body)| sent("", body).encoded(encoding)));
    assert_eq!(done.log, ["120 29", "120 26"], "{:?}", done.dead);
    let mut zstd = ZSTD_OF_A_PIPE.to_vec();
    zstd[10] = b'j';
    let done = handle(text, [sent("", zstd).encoded("zstd")]);
    assert_eq!(done.reasons(), ["the body is not zstd, or ends early: the checksum differs"]);
    let mut gzip = GZIP_OF_A_PIPE.to_vec();
    gzip[21] ^= 1;
    assert_eq!(handle(text, [sent("", gzip).encoded("gzip")]).classes(), ["decode"]);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 1 << 20];
    // Each of these is 100 MiB in some kilobytes.
    let (gzip, zstd) = (gzip(&zeros).repeat(100), zstd(&zeros).repeat(100));
    assert!(gzip.len() < 200_000 && zstd.len() < 200_000, "{} {}", gzip.len(), zstd.len());
    let done = handle(text, [sent("", gzip).encoded("gzip"), sent("", zstd).encoded("zstd")]);
    assert_eq!(done.classes(), ["oversized"; 2]);
    assert_eq!(done.reasons(), ["the body has more than 16777216 bytes, the queue's `body_limit`"; 2]);
}

/// A frame whose header asks for a window of 2³⁸ bytes.
#[test]
fn a_window_larger_than_the_limit_is_not_allocated() {
    let done = handle(text, [sent("", b"\x28\xb5\x2f\xfd\x00\xe0\x01\x00\x00".to_vec()).encoded("zstd")]);
    assert_eq!(done.classes(), ["oversized"]);
}

#[test]
fn the_limit_of_a_queue_is_for_plain_and_for_decompressed_bodies() {
    let queue = || Queue::new("in").body_limit(10);
    let all = |length| {
        let body = vec![b'a'; length];
        [sent("", body.clone()), sent("", gzip(&body)).encoded("gzip"), sent("", zstd(&body)).encoded("zstd")]
    };
    let done = handle_on(queue(), text, all(11));
    assert_eq!(done.classes(), ["oversized"; 3]);
    let done = handle_on(queue().body_limit(30), text, all(10));
    assert_eq!(done.log.len(), 3, "{:?}", done.dead);
    // The messages themselves have no limit: a handler that reads no body gets them.
    async fn message(message: Message, State(log): State<Log>) {
        log.add(message.body().len().to_string());
    }
    assert_eq!(handle_on(queue(), message, all(11)).log.len(), 3);
}

#[test]
fn a_compressed_body_is_dead_lettered_as_it_arrived() {
    async fn order(Json(order): Json<u32>) {
        panic!("{order} is no order");
    }
    let done = handle(order, [sent("application/json", gzip(b"[7]")).encoded("gzip")]);
    assert_eq!(done.classes(), ["decode"]);
    assert!(
        done.reasons()[0].starts_with("the body is not the JSON of u32: invalid type: sequence"),
        "{:?}",
        done.dead
    );
}
