//! Frames built by hand and a naive parser, independent of the framing of the crate.

use hopmq_proto::Properties;
use hopmq_proto::method::{Encode, Method};

pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: u8 = 8;

/// A well-formed frame of any kind around any payload.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(payload.len()).expect("a small payload").to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(0xCE);
    bytes
}

/// The head of a frame that announces a size, without a payload.
pub fn head(kind: u8, channel: u16, size: u32) -> Vec<u8> {
    let mut bytes = frame(kind, channel, &[]);
    bytes.truncate(3);
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes
}

pub fn payload<M: Encode>(method: &M) -> Vec<u8> {
    let mut payload = Vec::new();
    method.encode(&mut payload).expect("a method that can be encoded");
    payload
}

pub fn method<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    frame(METHOD, channel, &payload(method))
}

/// A content header that announces `size` bytes of body, without properties.
pub fn header(channel: u16, size: u64) -> Vec<u8> {
    header_with(channel, size, Properties::EMPTY)
}

pub fn header_with(channel: u16, size: u64, properties: Properties<&[u8]>) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend_from_slice(&size.to_be_bytes());
    properties.encode(&mut payload).expect("properties that can be encoded");
    frame(HEADER, channel, &payload)
}

pub fn body(channel: u16, bytes: &[u8]) -> Vec<u8> {
    frame(BODY, channel, bytes)
}

/// A whole message, its body in frames of at most `chunk` bytes.
pub fn content<M: Encode>(channel: u16, announcement: &M, bytes: &[u8], chunk: usize) -> Vec<u8> {
    let mut frames = method(channel, announcement);
    frames.extend(header(channel, bytes.len() as u64));
    for part in bytes.chunks(chunk) {
        frames.extend(body(channel, part));
    }
    frames
}

pub fn heartbeat() -> Vec<u8> {
    frame(HEARTBEAT, 0, &[])
}

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The short form of channel and method, such as `1 queue.declare`.
    pub fn brief(&self) -> String {
        let channel = self.channel;
        match self.kind {
            METHOD => match Method::decode(&self.payload) {
                Ok(method) => format!("{channel} {}", method.id()),
                Err(error) => format!("{channel} malformed: {error}"),
            },
            HEADER => format!("{channel} header"),
            BODY => format!("{channel} body {}", self.payload.len()),
            HEARTBEAT => "heartbeat".to_owned(),
            kind => format!("frame of kind {kind}"),
        }
    }
}

/// Splits bytes into frames, without a protocol header in front.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        if bytes.starts_with(b"AMQP") {
            bytes = &bytes[8..];
            continue;
        }
        let size = u32::from_be_bytes(bytes[3..7].try_into().expect("four bytes")) as usize;
        assert_eq!(bytes[7 + size], 0xCE, "the frame has its end octet");
        frames.push(Frame {
            kind: bytes[0],
            channel: u16::from_be_bytes([bytes[1], bytes[2]]),
            payload: bytes[7..7 + size].to_vec(),
        });
        bytes = &bytes[8 + size..];
    }
    frames
}

/// Splits bytes into the bytes of each frame.
pub fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[3..7].try_into().expect("four bytes")) as usize;
        let (frame, rest) = bytes.split_at(size + 8);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

/// The short forms of the frames.
pub fn briefs(bytes: &[u8]) -> Vec<String> {
    frames(bytes).iter().map(Frame::brief).collect()
}
