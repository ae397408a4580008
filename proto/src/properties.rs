//! The properties of a message (specification §1.8.1), read in place and encoded when set.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::BufMut;

use crate::duration::milliseconds;
use crate::error::{Error, Flaw, code, sound};
use crate::octets::{Octets, OctetsMut};
use crate::table::{FieldTable, IntoValue, insert_into, put_table};
use crate::violation::{ShortString, Violation};
use crate::wire::{self, Reader};

/// How a property is encoded.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    ShortStr,
    Table,
    Octet,
    Timestamp,
}

// The fourteen properties in the order of the specification. The first has the highest flag.
const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;
const TIMESTAMP: usize = 9;
const KIND: usize = 10;
const USER_ID: usize = 11;
const APP_ID: usize = 12;
const CLUSTER_ID: usize = 13;
const COUNT: usize = 14;

/// The `delivery-mode` of a message that survives a broker restart in a durable queue.
const PERSISTENT: u8 = 2;

const fn flag(property: usize) -> u16 {
    1 << (15 - property)
}

const fn kind(property: usize) -> Kind {
    match property {
        HEADERS => Kind::Table,
        DELIVERY_MODE | PRIORITY => Kind::Octet,
        TIMESTAMP => Kind::Timestamp,
        _ => Kind::ShortStr,
    }
}

/// The properties of a message in encoded form: the flags, and the list of the properties that are set.
///
/// Readers work over any storage and walk the list on each call. `None` means that the property is not set, or that the
/// list ends inside it. AMQP requires UTF-8, but RabbitMQ forwards any bytes that a publisher sent: a text that is not
/// UTF-8 reads as U+FFFD, and the reader with `_bytes` in its name returns its bytes.
///
/// Setters work on `Vec<u8>`, the default, and on `Cow<[u8]>`, which copies at the first change. A setter skips a
/// string that is longer than 255 bytes; [`validity`](Self::validity) and publishing the message then report the error.
///
/// ```
/// use hopmq_proto::Properties;
///
/// let properties = Properties::new().with_persistent().with_content_type("text/plain").with_header("x", 1);
/// assert!(properties.is_persistent());
/// assert_eq!(properties.content_type(), Some("text/plain"));
/// assert_eq!(properties.headers()?.get("x").and_then(|value| value.as_i64()), Some(1));
/// # Ok::<(), hopmq_proto::Error>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Properties<B: AsRef<[u8]> = Vec<u8>> {
    flags: u16,
    flaw: Option<Flaw>,
    bytes: B,
}

impl Properties {
    /// Returns an empty list of properties.
    pub const fn new() -> Self {
        Self { flags: 0, flaw: None, bytes: Vec::new() }
    }

    /// Returns an empty list of properties, like [`new`](Self::new). The storage is `Vec<u8>` without a type
    /// annotation.
    #[allow(clippy::should_implement_trait, reason = "the trait is implemented for every storage")]
    pub const fn default() -> Self {
        Self::new()
    }
}

impl Properties<&'static [u8]> {
    /// No properties, without allocated memory.
    pub const EMPTY: Self = Self { flags: 0, flaw: None, bytes: &[] };

    /// Returns `delivery-mode` 2 and nothing else.
    pub const fn persistent() -> Self {
        Self { flags: flag(DELIVERY_MODE), flaw: None, bytes: &[PERSISTENT] }
    }
}

impl<B: AsRef<[u8]>> Properties<B> {
    /// Makes properties of the flags and the list of a content header, unchecked: see [`check`](Self::check).
    pub const fn from_parts(flags: u16, bytes: B) -> Self {
        Self { flags, flaw: None, bytes }
    }

    /// Returns which properties are set: `content-type` is the highest bit.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Returns the encoded list.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns whether no property is set.
    pub fn is_empty(&self) -> bool {
        self.flags == 0
    }

    /// Returns the properties, borrowed.
    pub fn as_ref_properties(&self) -> Properties<&[u8]> {
        Properties { flags: self.flags, flaw: self.flaw, bytes: self.as_bytes() }
    }

    /// Returns a copy of the properties.
    pub fn to_owned_properties(&self) -> Properties {
        Properties { flags: self.flags, flaw: self.flaw, bytes: self.as_bytes().to_vec() }
    }

    /// Checks the whole list: flags, lengths, the table of headers, and that nothing follows the last property. Texts
    /// need not be UTF-8, because RabbitMQ forwards any bytes.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if the list is malformed.
    pub fn check(&self) -> Result<(), Error> {
        if self.flags & !KNOWN != 0 {
            return Err(unknown_flags(self.flags));
        }
        let mut reader = Reader::new(self.as_bytes());
        for property in (0..COUNT).filter(|&property| self.has(property)) {
            match kind(property) {
                Kind::Table => reader.table().map(drop)?,
                _ => skip(&mut reader, property)?,
            }
        }
        reader.finish()
    }

    /// Checks that every property that was set can be sent.
    ///
    /// # Errors
    /// The caller's fault, if a string was longer than 255 bytes or the headers cannot be encoded.
    pub fn validity(&self) -> Result<(), Error> {
        sound(self.flaw)
    }

    /// Appends the flags and the list, as at the end of a content header.
    ///
    /// # Errors
    /// The errors of [`validity`](Self::validity). `out` is unchanged then.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.validity()?;
        out.put_u16(self.flags);
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    /// Returns whether `delivery-mode` is 2: the message survives a broker restart in a durable queue.
    pub fn is_persistent(&self) -> bool {
        self.octet(DELIVERY_MODE) == Some(PERSISTENT)
    }

    /// Returns `delivery-mode`: 1 is transient, 2 persistent.
    pub fn delivery_mode(&self) -> Option<u8> {
        self.octet(DELIVERY_MODE)
    }

    /// Returns `priority`: 0 to 9 in the specification, 0 to 255 in RabbitMQ.
    pub fn priority(&self) -> Option<u8> {
        self.octet(PRIORITY)
    }

    /// Returns `timestamp`, in seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        self.seek(TIMESTAMP)?.u64().ok()
    }

    /// Returns `headers`, empty if they are not set. Each call checks the table, so keep the result.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if the table is malformed.
    pub fn headers<'i, 'o>(&'i self) -> Result<FieldTable<&'o [u8]>, Error>
    where
        B: Octets<'i, 'o>,
    {
        if !self.has(HEADERS) {
            return Ok(FieldTable::<&[u8]>::default());
        }
        seek(self.flags, self.bytes.octets(), HEADERS)?.table()
    }

    #[inline]
    fn has(&self, property: usize) -> bool {
        self.flags & flag(property) != 0
    }

    fn octet(&self, property: usize) -> Option<u8> {
        self.seek(property)?.u8().ok()
    }

    fn short_bytes<'i, 'o>(&'i self, property: usize) -> Option<&'o [u8]>
    where
        B: Octets<'i, 'o>,
    {
        if !self.has(property) {
            return None;
        }
        seek(self.flags, self.bytes.octets(), property).ok()?.short_bytes().ok()
    }

    fn seek(&self, property: usize) -> Option<Reader<'_>> {
        if self.has(property) { seek(self.flags, self.as_bytes(), property).ok() } else { None }
    }
}

/// All flags with a meaning. The lowest would announce more flags, which no property needs.
const KNOWN: u16 = !0b11;

/// Returns a reader at the place of `property`, set or not.
fn seek(flags: u16, bytes: &[u8], property: usize) -> Result<Reader<'_>, Error> {
    let mut reader = Reader::new(bytes);
    for earlier in 0..property {
        if flags & flag(earlier) != 0 {
            skip(&mut reader, earlier)?;
        }
    }
    Ok(reader)
}

#[cold]
fn unknown_flags(flags: u16) -> Error {
    let text = format!("received a content header with unknown property flags {:#06x}", flags & !KNOWN);
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, text)
}

fn skip(reader: &mut Reader<'_>, property: usize) -> Result<(), Error> {
    match kind(property) {
        Kind::ShortStr => reader.short_bytes().map(drop),
        Kind::Table => reader.long_str().map(drop),
        Kind::Octet => reader.u8().map(drop),
        Kind::Timestamp => reader.u64().map(drop),
    }
}

impl<B: OctetsMut> Properties<B> {
    /// Sets `headers`, replacing those that are set.
    #[must_use]
    pub fn with_headers<T: AsRef<[u8]>>(self, headers: &FieldTable<T>) -> Self {
        self.set(HEADERS, |out| put_table(out, headers))
    }

    /// Adds or replaces one header.
    #[must_use]
    pub fn with_header(mut self, key: &str, value: impl IntoValue) -> Self {
        if !self.has(HEADERS) {
            self = self.set(HEADERS, |out| put_table(out, &FieldTable::new()));
        }
        let added = self.place(HEADERS).and_then(|place| {
            let bytes = self.bytes.to_mut();
            let table = place.start + 4..place.end;
            let len = value.with_value(|value| insert_into(bytes, table, key, value))?;
            let len = u32::try_from(len).map_err(|_| Flaw::LongString)?;
            bytes[place.start..place.start + 4].copy_from_slice(&len.to_be_bytes());
            Ok(())
        });
        self.note(added)
    }

    /// Sets `delivery-mode`: 1 is transient, 2 persistent.
    #[must_use]
    pub fn with_delivery_mode(self, mode: u8) -> Self {
        self.set(DELIVERY_MODE, |out| {
            out.put_u8(mode);
            Ok(())
        })
    }

    /// Sets `delivery-mode` to 2.
    #[must_use]
    pub fn with_persistent(self) -> Self {
        self.with_delivery_mode(PERSISTENT)
    }

    /// Sets `priority`.
    #[must_use]
    pub fn with_priority(self, priority: u8) -> Self {
        self.set(PRIORITY, |out| {
            out.put_u8(priority);
            Ok(())
        })
    }

    /// Sets `timestamp`, in seconds since 1970.
    #[must_use]
    pub fn with_timestamp(self, seconds: u64) -> Self {
        self.set(TIMESTAMP, |out| {
            out.put_u64(seconds);
            Ok(())
        })
    }

    /// Sets `expiration` to a time, rounded up to whole milliseconds. At most [`LONGEST_TTL`](crate::LONGEST_TTL), the
    /// longest time that RabbitMQ takes; [`validity`](Self::validity) and publishing report a longer one.
    #[must_use]
    pub fn with_time_to_live(self, time: Duration) -> Self {
        match milliseconds(time) {
            Some(millis) => self.with_expiration(&millis.to_string()),
            None => self.note(Err(Flaw::Ttl)),
        }
    }

    /// Removes `expiration`: a dead-lettered message must not expire again.
    #[must_use]
    pub fn without_expiration(mut self) -> Self {
        let place = if self.has(EXPIRATION) { self.place(EXPIRATION) } else { return self };
        let removed = place.map(|place| {
            self.bytes.to_mut().drain(place);
            self.flags &= !flag(EXPIRATION);
        });
        self.note(removed)
    }

    fn set(mut self, property: usize, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Flaw>) -> Self {
        let written = self.place(property).and_then(|place| wire::replace(self.bytes.to_mut(), place, write));
        if written.is_ok() {
            self.flags |= flag(property);
        }
        self.note(written.map(drop))
    }

    /// Returns the range of the property, empty if the property is not set.
    fn place(&self, property: usize) -> Result<Range<usize>, Flaw> {
        let bytes = self.as_bytes();
        let mut reader = seek(self.flags, bytes, property).map_err(|_| Flaw::Malformed)?;
        let start = bytes.len() - reader.remaining();
        if self.has(property) {
            skip(&mut reader, property).map_err(|_| Flaw::Malformed)?;
        }
        Ok(start..bytes.len() - reader.remaining())
    }

    fn note(mut self, result: Result<(), Flaw>) -> Self {
        if let Err(flaw) = result {
            self.flaw.get_or_insert(flaw);
        }
        self
    }
}

macro_rules! texts {
    ($($property:ident $name:ident $read:ident $bytes:ident $write:ident $doc:literal)*) => {
        impl<B: AsRef<[u8]>> Properties<B> {$(
            #[doc = concat!("Returns ", $doc, " `None` if it is not set; U+FFFD if it is not UTF-8.")]
            pub fn $read<'i, 'o>(&'i self) -> Option<&'o str>
            where
                B: Octets<'i, 'o>,
            {
                self.short_bytes($property).map(wire::text)
            }

            #[doc = concat!("Returns the bytes of ", $doc, " `None` if it is not set.")]
            pub fn $bytes<'i, 'o>(&'i self) -> Option<&'o [u8]>
            where
                B: Octets<'i, 'o>,
            {
                self.short_bytes($property)
            }
        )*}

        impl<B: OctetsMut> Properties<B> {$(
            #[doc = concat!("Sets ", $doc, " At most 255 bytes.")]
            #[must_use]
            pub fn $write(self, text: &str) -> Self {
                self.set($property, |out| wire::put_short_str(out, ShortString::$name, text))
            }
        )*}
    };
}

texts! {
    CONTENT_TYPE ContentType content_type content_type_bytes with_content_type
        "`content-type`, the MIME type of the body."
    CONTENT_ENCODING ContentEncoding content_encoding content_encoding_bytes with_content_encoding
        "`content-encoding`, such as `gzip`."
    CORRELATION_ID CorrelationId correlation_id correlation_id_bytes with_correlation_id
        "`correlation-id`, which links request and reply."
    REPLY_TO ReplyTo reply_to reply_to_bytes with_reply_to
        "`reply-to`, the queue for replies."
    EXPIRATION Expiration expiration expiration_bytes with_expiration
        "`expiration`, the time to live in milliseconds, in digits."
    MESSAGE_ID MessageId message_id message_id_bytes with_message_id
        "`message-id`, an identifier that the application chooses."
    KIND MessageType kind kind_bytes with_kind
        "`type`, the kind of the message."
    USER_ID UserId user_id user_id_bytes with_user_id
        "`user-id`, which RabbitMQ compares with the login."
    APP_ID AppId app_id app_id_bytes with_app_id
        "`app-id`, the application that published the message."
    CLUSTER_ID ClusterId cluster_id cluster_id_bytes with_cluster_id
        "`cluster-id`, deprecated and without a meaning."
}

impl<B: AsRef<[u8]>> fmt::Debug for Properties<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let this = self.as_ref_properties();
        let mut map = f.debug_struct("Properties");
        let mut texts = |name, value: Option<&[u8]>| {
            if let Some(value) = value {
                map.field(name, &String::from_utf8_lossy(value));
            }
        };
        texts("content_type", this.content_type_bytes());
        texts("content_encoding", this.content_encoding_bytes());
        texts("correlation_id", this.correlation_id_bytes());
        texts("reply_to", this.reply_to_bytes());
        texts("expiration", this.expiration_bytes());
        texts("message_id", this.message_id_bytes());
        texts("kind", this.kind_bytes());
        texts("user_id", this.user_id_bytes());
        texts("app_id", this.app_id_bytes());
        texts("cluster_id", this.cluster_id_bytes());
        let mut numbers = |name, value: Option<u64>| {
            if let Some(value) = value {
                map.field(name, &value);
            }
        };
        numbers("delivery_mode", this.delivery_mode().map(u64::from));
        numbers("priority", this.priority().map(u64::from));
        numbers("timestamp", this.timestamp());
        if this.has(HEADERS) {
            map.field("headers", &this.headers());
        }
        map.finish()
    }
}

impl<A: AsRef<[u8]>, B: AsRef<[u8]>> PartialEq<Properties<B>> for Properties<A> {
    fn eq(&self, other: &Properties<B>) -> bool {
        self.flags == other.flags && self.as_bytes() == other.as_bytes()
    }
}

impl<B: AsRef<[u8]>> Eq for Properties<B> {}

impl<B: AsRef<[u8]>> From<&Properties<B>> for Properties {
    fn from(properties: &Properties<B>) -> Self {
        properties.to_owned_properties()
    }
}

impl<'a> From<Properties<&'a [u8]>> for Properties<Cow<'a, [u8]>> {
    fn from(properties: Properties<&'a [u8]>) -> Self {
        Self { flags: properties.flags, flaw: properties.flaw, bytes: Cow::Borrowed(properties.bytes) }
    }
}

impl<'a> From<Properties> for Properties<Cow<'a, [u8]>> {
    fn from(properties: Properties) -> Self {
        Self { flags: properties.flags, flaw: properties.flaw, bytes: Cow::Owned(properties.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Value;

    #[test]
    fn setters_work_in_any_order_and_replace() {
        let properties = Properties::new()
            .with_app_id("app")
            .with_content_type("text/plain")
            .with_timestamp(7)
            .with_content_type("application/json")
            .with_persistent()
            .with_header("a", 1)
            .with_header("b", "two")
            .with_header("a", "one");
        properties.check().unwrap();
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!((properties.app_id(), properties.timestamp()), (Some("app"), Some(7)));
        assert_eq!(properties.headers().unwrap(), FieldTable::from([("a", "one"), ("b", "two")]));
        assert_eq!((properties.priority(), properties.reply_to()), (None, None));
    }

    #[test]
    fn a_time_to_live_is_rounded_up_and_bounded() {
        let properties = |time| Properties::new().with_time_to_live(time);
        assert_eq!(properties(Duration::from_nanos(1)).expiration(), Some("1"));
        assert_eq!(properties(Duration::from_micros(1500)).expiration(), Some("2"));
        assert_eq!(properties(Duration::ZERO).expiration(), Some("0"));
        assert_eq!(properties(crate::LONGEST_TTL).expiration(), Some("315360000000"));
        let error = properties(crate::LONGEST_TTL + Duration::from_millis(1)).validity().unwrap_err();
        assert_eq!(error.violation(), Violation::TtlTooLong);
        assert!(error.message().contains("315360000000 ms"), "{}", error.message());
    }

    #[test]
    fn an_expiration_can_be_removed() {
        let rest = Properties::new().with_reply_to("r").with_message_id("m");
        assert_eq!(rest.clone().with_expiration("60000").without_expiration(), rest);
        assert_eq!(rest.clone().without_expiration(), rest);
    }

    #[test]
    fn borrowed_properties_are_copied_at_the_first_change() {
        let borrowed: Properties<Cow<'_, [u8]>> = Properties::persistent().into();
        assert!(matches!(borrowed.bytes, Cow::Borrowed(_)) && borrowed.is_persistent());
        let changed = borrowed.with_content_type("x/y");
        assert!(changed.is_persistent());
        assert_eq!(changed, Properties::new().with_persistent().with_content_type("x/y"));
    }

    #[test]
    fn values_outlive_borrowed_properties() {
        let owned = Properties::new().with_kind("k").with_header("h", "v");
        let kind = owned.as_ref_properties().kind();
        let header = owned.as_ref_properties().headers().unwrap().get("h");
        assert_eq!((kind, header.and_then(|value| value.as_str())), (Some("k"), Some("v")));
    }

    #[test]
    fn a_property_of_256_bytes_is_reported() {
        let properties = Properties::new().with_kind("before").with_kind(&"x".repeat(256)).with_priority(1);
        assert_eq!((properties.kind(), properties.priority()), (Some("before"), Some(1)));
        let mut out = vec![9];
        assert!(properties.validity().is_err() && properties.encode(&mut out).is_err());
        assert_eq!(out, [9]);
        let error = properties.validity().unwrap_err();
        assert_eq!(error.message(), "type is 256 bytes long; at most 255 are allowed");
        let error = Properties::new().with_header(&"x".repeat(256), 1).validity().unwrap_err();
        assert_eq!(error.violation(), Violation::ShortStringTooLong { string: ShortString::TableKey, size: 256 });
    }

    #[test]
    fn bytes_that_are_not_utf8_are_present_and_hide_nothing() {
        let list = b"\x03a/\xff\x00\x00\x00\x12\x02\xfekI\x00\x00\x00\x01\x04nextI\x00\x00\x00\x02\x01i\x02\xc3(";
        let flags = flag(CONTENT_TYPE) | flag(HEADERS) | flag(CORRELATION_ID) | flag(MESSAGE_ID);
        let properties = Properties::from_parts(flags, &list[..]);
        properties.check().unwrap();
        assert_eq!(properties.content_type(), Some("\u{fffd}"));
        assert_eq!(properties.content_type_bytes(), Some(&b"a/\xff"[..]));
        assert_eq!((properties.correlation_id(), properties.correlation_id_bytes()), (Some("i"), Some(&b"i"[..])));
        assert_eq!(properties.message_id_bytes(), Some(&b"\xc3("[..]));
        assert_eq!((properties.app_id(), properties.app_id_bytes()), (None, None));
        let headers = properties.headers().unwrap();
        assert_eq!(headers.get("next"), Some(Value::I32(2)));
        assert_eq!(headers.get_bytes(b"\xfek"), Some(Value::I32(1)));
        assert_eq!(headers.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["\u{fffd}", "next"]);
        assert_eq!(headers.iter_bytes().map(|(key, _)| key).collect::<Vec<_>>(), [&b"\xfek"[..], b"next"]);
        let more = properties.to_owned_properties().with_header("next", 3);
        assert_eq!(more.headers().unwrap().get_bytes(b"\xfek"), Some(Value::I32(1)));
        assert_eq!(more.headers().unwrap().get("next"), Some(Value::I32(3)));
    }

    #[test]
    fn malformed_properties_read_as_absent() {
        let cut = Properties::from_parts(flag(CONTENT_TYPE) | flag(PRIORITY), &b"\x09text"[..]);
        assert_eq!((cut.content_type(), cut.priority()), (None, None));
        assert_eq!(cut.check().unwrap_err().code(), code::SYNTAX_ERROR);
        assert!(cut.to_owned_properties().with_priority(1).validity().is_err());

        let headers = Properties::from_parts(flag(HEADERS), &b"\x00\x00\x00\x03\x01a?"[..]);
        assert!(headers.headers().is_err() && headers.check().is_err());

        for unknown in [1, 2] {
            assert!(Properties::from_parts(unknown, &b""[..]).check().is_err());
        }
        assert!(Properties::from_parts(0, &b"x"[..]).check().is_err());
    }
}
