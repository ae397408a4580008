//! The encoding of queues, exchanges and bindings in the store.
//!
//! A definition is a field table. A key is a letter and names, each after its length. It must never know what becomes
//! of them.

use hopmq_proto::{FieldTable, Value};

use crate::engine::queue::QueueSpec;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::routing::exchange::{ExchangeSpec, Kind};

pub(in crate::engine) const VHOST: u8 = b'v';
pub(in crate::engine) const USER: u8 = b'u';
pub(in crate::engine) const EXCHANGE: u8 = b'x';
pub(in crate::engine) const BINDING: u8 = b'b';
/// Exists while a broker runs on the store. If it exists at a start, the last run did not end in order.
pub(in crate::engine) const RUNNING: u8 = b'r';
/// The destination of a binding.
pub(in crate::engine) const TO_QUEUE: u8 = b'q';
pub(in crate::engine) const TO_EXCHANGE: u8 = b'x';

/// The parts of a binding. All of them are in its key.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct BindingParts<'a> {
    pub(in crate::engine) vhost: &'a str,
    pub(in crate::engine) source: &'a str,
    pub(in crate::engine) kind: u8,
    pub(in crate::engine) destination: &'a str,
    pub(in crate::engine) key: &'a [u8],
    pub(in crate::engine) arguments: &'a [u8],
}

impl<'a> BindingParts<'a> {
    pub(in crate::engine) fn key(&self) -> Vec<u8> {
        let mut out = key(BINDING, &[self.vhost.as_bytes(), self.source.as_bytes()]);
        out.push(self.kind);
        put(&mut out, self.destination.as_bytes());
        put(&mut out, self.key);
        out.extend_from_slice(self.arguments);
        out
    }

    /// Parses the key of [`BindingParts::key`], without its first letter.
    pub(in crate::engine) fn parse(key: &'a [u8]) -> Option<Self> {
        let (vhost, rest) = take(key)?;
        let (source, rest) = take(rest)?;
        let (&kind, rest) = rest.split_first()?;
        let (destination, rest) = take(rest)?;
        let (key, arguments) = take(rest)?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (vhost, source, destination) = (text(vhost)?, text(source)?, text(destination)?);
        Some(Self { vhost, source, kind, destination, key, arguments })
    }
}

/// Encodes the returns of a message for the store: that there was one, in 16 bits how many counted, and above those how
/// many did not. Larger numbers become the largest.
pub(in crate::engine) fn deliveries(returned: u32, acquired: u32) -> u32 {
    1 | returned.min(0xFFFF) << 1 | acquired.saturating_sub(returned).min(0x1FFF) << 17
}

/// The reasons for which a queue keeps dead messages.
const REASONS: [Reason; 3] = [Reason::Rejected, Reason::Expired, Reason::DeliveryLimit];

/// Encodes why a message is dead, in the two highest bits of [`deliveries`].
pub(in crate::engine) fn dead(reason: Reason) -> u32 {
    (REASONS.iter().position(|known| *known == reason).map_or(0, |index| index + 1) as u32) << 30
}

/// Decodes why a message is dead.
pub(in crate::engine) fn reason(deliveries: u32) -> Option<Reason> {
    REASONS.get((deliveries as usize >> 30).checked_sub(1)?).copied()
}

/// Decodes how many returns of a message counted.
pub(in crate::engine) fn returned(deliveries: u32) -> u32 {
    deliveries >> 1 & 0xFFFF
}

/// Decodes how many returns of a message there were.
pub(in crate::engine) fn acquired(deliveries: u32) -> u32 {
    returned(deliveries) + (deliveries >> 17 & 0x1FFF)
}

/// Encodes a priority for the store. The two highest become one.
pub(in crate::engine) fn priority_byte(priority: Option<u8>) -> u8 {
    priority.map_or(0, |priority| priority.saturating_add(1))
}

/// Decodes a priority.
pub(in crate::engine) fn priority(byte: u8) -> Option<u8> {
    byte.checked_sub(1)
}

pub(in crate::engine) fn vhost_key(name: &str) -> Vec<u8> {
    key(VHOST, &[name.as_bytes()])
}

pub(in crate::engine) fn user_key(name: &str) -> Vec<u8> {
    key(USER, &[name.as_bytes()])
}

pub(in crate::engine) fn exchange_key(vhost: &str, name: &str) -> Vec<u8> {
    key(EXCHANGE, &[vhost.as_bytes(), name.as_bytes()])
}

fn key(letter: u8, names: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![letter];
    names.iter().for_each(|name| put(&mut out, name));
    out
}

/// Appends a name. AMQP limits names to 255 bytes.
fn put(out: &mut Vec<u8>, name: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&size, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(size))
}

/// Parses the names of a key, without its first letter.
pub(in crate::engine) fn names(mut key: &[u8]) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    while !key.is_empty() {
        let (name, rest) = take(key)?;
        names.push(std::str::from_utf8(name).ok()?);
        key = rest;
    }
    Some(names)
}

pub(in crate::engine) fn of_queue(vhost: &str, name: &str, spec: &QueueSpec) -> Vec<u8> {
    let table = FieldTable::new()
        .with("vhost", vhost)
        .with("name", name)
        .with("auto_delete", spec.auto_delete)
        .with("arguments", &spec.arguments);
    table.as_bytes().to_vec()
}

/// Encodes whose delayed messages a queue holds: the virtual host and the exchange.
pub(in crate::engine) fn of_delayed(vhost: &str, exchange: &str) -> Vec<u8> {
    FieldTable::new().with("vhost", vhost).with("delayed", exchange).as_bytes().to_vec()
}

/// Parses the virtual host and the exchange whose delayed messages a queue holds.
pub(in crate::engine) fn delayed_of(definition: &[u8]) -> Option<(String, String)> {
    let table = FieldTable::parse(definition).ok()?;
    let text = |key| table.get(key)?.as_str().map(ToOwned::to_owned);
    Some((text("vhost")?, text("delayed")?))
}

/// Parses a queue's virtual host, name and declaration.
pub(in crate::engine) fn queue_of(definition: &[u8]) -> Option<(String, String, QueueSpec)> {
    let table = FieldTable::parse(definition).ok()?;
    let text = |key| table.get(key)?.as_str().map(ToOwned::to_owned);
    let spec = QueueSpec {
        durable: true,
        auto_delete: table.get("auto_delete").and_then(|value| value.as_bool())?,
        exclusive: None,
        arguments: arguments(&table)?,
    };
    Some((text("vhost")?, text("name")?, spec))
}

fn arguments(table: &FieldTable<&[u8]>) -> Option<FieldTable> {
    match table.get("arguments")? {
        Value::Table(arguments) => Some(arguments.to_owned_table()),
        _ => None,
    }
}

pub(in crate::engine) fn of_exchange(spec: &ExchangeSpec) -> Vec<u8> {
    let table = FieldTable::new()
        .with("type", spec.kind.name())
        .with("auto_delete", spec.auto_delete)
        .with("internal", spec.internal)
        .with("arguments", &spec.arguments);
    table.as_bytes().to_vec()
}

pub(in crate::engine) fn exchange_of(definition: &[u8]) -> Option<ExchangeSpec> {
    let table = FieldTable::parse(definition).ok()?;
    let flag = |key| table.get(key)?.as_bool();
    Some(ExchangeSpec {
        kind: Kind::of(table.get("type")?.as_str()?)?,
        durable: true,
        auto_delete: flag("auto_delete")?,
        internal: flag("internal")?,
        arguments: arguments(&table)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_counts_and_priorities_are_decoded_again() {
        for (counted, all) in [(0, 0), (0, 1), (3, 3), (20, 25), (0xFFFF, 0x11FFE)] {
            let stored = deliveries(counted, all);
            assert_eq!((returned(stored), acquired(stored)), (counted, all));
            assert!(stored > 0);
            assert_eq!(reason(stored), None);
            for why in REASONS {
                let dead = stored | dead(why);
                assert_eq!((reason(dead), returned(dead), acquired(dead)), (Some(why), counted, all));
            }
        }
        assert_eq!(returned(deliveries(70_000, 70_000)), 0xFFFF);
        for level in [None, Some(0), Some(4), Some(254)] {
            assert_eq!(priority(priority_byte(level)), level);
        }
    }

    #[test]
    fn encoded_definitions_are_decoded_again() {
        let parts = BindingParts {
            vhost: "/",
            source: "x",
            kind: TO_QUEUE,
            destination: "q",
            key: b"k",
            arguments: FieldTable::new().with("a", 1).as_bytes(),
        }
        .key();
        let again = BindingParts::parse(&parts[1..]).unwrap();
        assert_eq!((again.vhost, again.source, again.destination, again.key), ("/", "x", "q", &b"k"[..]));
        assert_eq!(names(&exchange_key("/", "orders")[1..]), Some(vec!["/", "orders"]));
        let arguments = FieldTable::new().with("x-message-ttl", 5);
        let spec = QueueSpec { durable: true, auto_delete: true, exclusive: None, arguments };
        let (vhost, name, again) = queue_of(&of_queue("/", "q", &spec)).unwrap();
        assert_eq!((vhost.as_str(), name.as_str(), again.auto_delete), ("/", "q", true));
        assert_eq!(again.arguments, spec.arguments);
        let delayed = of_delayed("/", "later");
        assert_eq!(delayed_of(&delayed), Some(("/".to_owned(), "later".to_owned())));
        assert!(queue_of(&delayed).is_none());
        assert!(queue_of(b"nonsense").is_none() && exchange_of(b"").is_none() && names(b"\x05ab").is_none());
    }
}
