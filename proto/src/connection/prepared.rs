//! A message that is encoded once and published many times.
//!
//! Owns the frames of its method and of its header. In come a route and properties; out go bytes, into which each
//! publish writes its channel and the size of its body. It must never know a channel or a connection.

use std::fmt;

use super::{put_payload, too_large};
use crate::Route;
use crate::error::Error;
use crate::frame::{self, HEAD, Kind, OVERHEAD};
use crate::method::{Encode, basic};
use crate::properties::Properties;

/// The encoded route and properties of messages that differ in nothing but the body: see
/// [`Connection::publish_prepared`](crate::Connection::publish_prepared).
#[derive(Clone)]
pub struct Prepared {
    /// The frames of the method and of the header, and the head of a body's frame: for channel 0 and an empty body.
    frames: Box<[u8]>,
    /// Where the frame of the header begins.
    header: usize,
    mandatory: bool,
}

/// Where the names begin in the frame of the method: after its head, its class and method, and a reserved number.
const NAMES: usize = HEAD + 4 + 2;
/// Where the size of the body begins in the frame of the header: after its head, the class and the weight.
const BODY_SIZE: usize = HEAD + 4;
/// Where the flags of the properties begin in the frame of the header.
const FLAGS: usize = BODY_SIZE + 8;

impl Prepared {
    /// Encodes a route and properties.
    ///
    /// # Errors
    /// The caller's fault, if exchange, routing key or properties can't be encoded.
    pub fn new(route: Route<'_>, properties: Properties<&[u8]>) -> Result<Self, Error> {
        properties.validity()?;
        let Route { exchange, routing_key, mandatory } = route;
        let method = basic::Publish { exchange, routing_key, mandatory, immediate: false };
        let mut frames = Vec::new();
        put_payload(&mut frames, usize::MAX, 0, basic::Publish::ID, |out| method.encode(out))?;
        let header = frames.len();
        let list = properties.as_bytes();
        let Ok(size) = u32::try_from(14 + list.len()) else {
            return Err(too_large("message properties", 14 + list.len() + OVERHEAD, u32::MAX as usize));
        };
        frame::put_head(&mut frames, Kind::Header, 0, size);
        frames.extend_from_slice(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        frames.extend_from_slice(&properties.flags().to_be_bytes());
        frames.extend_from_slice(list);
        frames.push(frame::END);
        frame::put_head(&mut frames, Kind::Body, 0, 0);
        Ok(Self { frames: frames.into(), header, mandatory })
    }

    /// Returns the route.
    pub fn route(&self) -> Route<'_> {
        let (exchange, rest) = name(&self.frames[NAMES..]);
        let (routing_key, _) = name(rest);
        Route { exchange, routing_key, mandatory: self.mandatory }
    }

    /// Whether the broker returns the messages if no queue takes them.
    #[inline]
    pub fn is_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Returns the properties.
    pub fn properties(&self) -> Properties<&[u8]> {
        let header = &self.frames[self.header..self.body()];
        let flags = u16::from_be_bytes([header[FLAGS], header[FLAGS + 1]]);
        Properties::from_parts(flags, &header[FLAGS + 2..header.len() - 1])
    }

    /// Appends the frames of a message whose body fits one frame, is not empty, and is copied.
    #[inline]
    pub(super) fn put_whole(&self, out: &mut Vec<u8>, channel: u16, body: &[u8]) {
        out.reserve(self.frames.len() + body.len() + 1);
        let start = out.len();
        out.extend_from_slice(&self.frames);
        let (channel, size) = (channel.to_be_bytes(), body.len() as u64);
        let frames = &mut out[start..];
        self.patch(frames, channel, size);
        let head = &mut frames[self.frames.len() - HEAD..];
        head[1..3].copy_from_slice(&channel);
        head[3..].copy_from_slice(&(size as u32).to_be_bytes());
        out.extend_from_slice(body);
        out.push(frame::END);
    }

    /// Appends the frames of the method and of the header, for a body of `size` bytes.
    pub(super) fn put(&self, out: &mut Vec<u8>, channel: u16, size: usize) {
        let start = out.len();
        out.extend_from_slice(&self.frames[..self.body()]);
        self.patch(&mut out[start..], channel.to_be_bytes(), size as u64);
    }

    #[inline]
    fn patch(&self, frames: &mut [u8], channel: [u8; 2], size: u64) {
        frames[1..3].copy_from_slice(&channel);
        let header = &mut frames[self.header..];
        header[1..3].copy_from_slice(&channel);
        header[BODY_SIZE..FLAGS].copy_from_slice(&size.to_be_bytes());
    }

    /// Returns where the head of the body's frame begins.
    #[inline]
    fn body(&self) -> usize {
        self.frames.len() - HEAD
    }

    /// Checks that the frames are not larger than the peer takes.
    ///
    /// # Errors
    /// The caller's fault, if they are.
    #[inline]
    pub(super) fn check_size(&self, frame_max: usize) -> Result<(), Error> {
        if self.frames.len() > frame_max { self.check_frames(frame_max) } else { Ok(()) }
    }

    #[cold]
    fn check_frames(&self, frame_max: usize) -> Result<(), Error> {
        let header = self.body() - self.header;
        if header > frame_max {
            return Err(too_large("message properties", header, frame_max));
        }
        if self.header > frame_max {
            return Err(too_large(basic::Publish::ID.name(), self.header, frame_max));
        }
        Ok(())
    }
}

/// Splits a short string off.
fn name(bytes: &[u8]) -> (&str, &[u8]) {
    let (name, rest) = bytes[1..].split_at(usize::from(bytes[0]));
    (std::str::from_utf8(name).unwrap_or_default(), rest)
}

/// Shows sizes only, as headers may hold secrets.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("route", &self.route()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_message_keeps_its_route_and_properties() {
        let properties = Properties::new().with_persistent().with_header("tenant", 7).with_kind("order");
        for mandatory in [false, true] {
            let route = Route { exchange: "shop", routing_key: "order.new", mandatory };
            let prepared = Prepared::new(route, properties.as_ref_properties()).unwrap();
            let known = prepared.route();
            assert_eq!((known.exchange, known.routing_key, known.mandatory), ("shop", "order.new", mandatory));
            assert_eq!(prepared.properties().flags(), properties.flags());
            assert_eq!(prepared.properties().as_bytes(), properties.as_bytes());
        }
        let long = "k".repeat(256);
        assert!(
            Prepared::new(Route { exchange: "", routing_key: &long, mandatory: false }, Properties::EMPTY).is_err()
        );
    }
}
