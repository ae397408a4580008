//! Picks one destination for a value by its hash, or at random: exchanges of the types `x-consistent-hash`, `x-random`
//! and `x-local-random`.
//!
//! A hash picks by the highest score (rendezvous hashing): a destination that is added or removed moves only the values
//! that it gets or had, in whatever order destinations were bound, and so after a restart as well. It takes time linear
//! in the number of destinations and weights; adding or removing one takes logarithmic time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use hopmq_proto::{FieldTable, Properties, Value};

use crate::engine::refusal::Refusal;
use crate::engine::routing::exchange::Destination;

/// What an `x-consistent-hash` exchange hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hashed {
    RoutingKey,
    Header(String),
    Property(Property),
}

/// A property that can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    CorrelationId,
    MessageId,
    Timestamp,
}

impl Hashed {
    /// Parses the arguments of an exchange.
    pub(crate) fn of(arguments: &FieldTable<&[u8]>) -> Result<Self, Refusal> {
        let text = |name: &str| match arguments.get(name) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            // In RabbitMQ, it crashes the channel.
            Some(_) => Err(Refusal::precondition(format_args!("{name} must be a string"))),
        };
        match (text("hash-header")?, text("hash-property")?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header)),
            (None, Some(property)) => Ok(Self::Property(match &*property {
                "correlation_id" => Property::CorrelationId,
                "message_id" => Property::MessageId,
                "timestamp" => Property::Timestamp,
                other => return Err(Refusal::precondition(format_args!("Unsupported property: {other}"))),
            })),
            (Some(_), Some(_)) => Err(Refusal::precondition("hash-header and hash-property are mutually exclusive")),
        }
    }

    /// Returns the hash of a message. All messages without the header or property have the same.
    pub(crate) fn hash(&self, key: &[u8], properties: &Properties<&[u8]>) -> u64 {
        match self {
            Self::RoutingKey => hash(key),
            Self::Header(name) => match properties.headers().ok().and_then(|headers| headers.get(name)) {
                None => 0,
                Some(Value::Str(bytes) | Value::Bytes(bytes)) => hash(bytes),
                Some(other) => match other.as_i64() {
                    Some(number) => hash(&number.to_be_bytes()),
                    None => hash(format!("{other:?}").as_bytes()),
                },
            },
            Self::Property(Property::CorrelationId) => properties.correlation_id().map_or(0, |id| hash(id.as_bytes())),
            Self::Property(Property::MessageId) => properties.message_id().map_or(0, |id| hash(id.as_bytes())),
            Self::Property(Property::Timestamp) => properties.timestamp().map_or(0, |time| hash(&time.to_be_bytes())),
        }
    }
}

/// Parses the binding key of an `x-consistent-hash` exchange: the weight of its destination.
pub(crate) fn weight(key: &[u8]) -> Result<u32, Refusal> {
    let text = String::from_utf8_lossy(key);
    match text.parse::<i64>() {
        Ok(..1) => Err(Refusal::precondition("The binding key must be greater than 0")),
        Ok(weight) => Ok(weight.try_into().unwrap_or(u32::MAX)),
        Err(_) => {
            // As Erlang writes a text.
            let shown = if text.is_empty() { String::new() } else { format!("\"{text}\"") };
            Err(Refusal::precondition(format_args!("The binding key must be an integer: <<{shown}>>")))
        }
    }
}

/// Destinations with weights.
#[derive(Debug)]
pub(crate) struct Weighted {
    pub(crate) hashed: Hashed,
    /// The seed of each destination with a weight, and the number of its bindings.
    all: BTreeMap<(Destination, u32), (u64, u32)>,
}

impl Weighted {
    pub(crate) fn new(hashed: Hashed) -> Self {
        Self { hashed, all: BTreeMap::new() }
    }

    /// Adds a destination. Its name must be the same after a restart.
    pub(crate) fn add(&mut self, destination: Destination, name: &str, weight: u32) {
        let seed = hash(name.as_bytes()) ^ u64::from(matches!(destination, Destination::Exchange(_)));
        self.all.entry((destination, weight)).or_insert((seed, 0)).1 += 1;
    }

    pub(crate) fn remove(&mut self, destination: Destination, weight: u32) {
        let Some((_, bindings)) = self.all.get_mut(&(destination, weight)) else { return };
        *bindings -= 1;
        if *bindings == 0 {
            self.all.remove(&(destination, weight));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the destination of a hash: each gets a share of the hashes as large as its weight.
    pub(crate) fn pick(&self, hash: u64) -> Option<Destination> {
        let scored = self.all.iter().map(|((destination, weight), (seed, _))| {
            // A number in (0, 1], of the upper 53 bits.
            let share = ((mix(hash ^ seed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            (share.ln() / f64::from(*weight), *seed, *destination)
        });
        let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        best.map(|(_, _, destination)| destination)
    }
}

/// Destinations of which each message gets one, with the same chance for each binding.
#[derive(Debug)]
pub(crate) struct Random {
    all: Vec<Destination>,
    /// Where each destination is in the list.
    places: BTreeSet<(Destination, u32)>,
    state: Cell<u64>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { all: Vec::new(), places: BTreeSet::new(), state: Cell::new(seed) }
    }

    pub(crate) fn add(&mut self, destination: Destination) {
        self.places.insert((destination, self.all.len() as u32));
        self.all.push(destination);
    }

    pub(crate) fn remove(&mut self, destination: Destination) {
        let Some(&(_, place)) = self.places.range((destination, 0)..=(destination, u32::MAX)).next() else { return };
        self.places.remove(&(destination, place));
        self.all.swap_remove(place as usize);
        // The last one has its place now.
        if let Some(moved) = self.all.get(place as usize) {
            self.places.remove(&(*moved, self.all.len() as u32));
            self.places.insert((*moved, place));
        }
    }

    pub(crate) fn pick(&self) -> Option<Destination> {
        self.state.set(self.state.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let index = (u128::from(mix(self.state.get())) * self.all.len() as u128) >> 64;
        self.all.get(index as usize).copied()
    }
}

/// FNV-1a, whose result does not change between releases, as that of std's hashers may.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keys::QueueKey;

    fn queue(number: u64) -> Destination {
        Destination::Queue(QueueKey::from(slotmap::KeyData::from_ffi(1 << 32 | number)))
    }

    fn picked(weighted: &Weighted) -> Vec<Option<Destination>> {
        (0..10_000).map(|number: u32| weighted.pick(hash(format!("key-{number}").as_bytes()))).collect()
    }

    #[test]
    fn a_destination_gets_a_share_as_large_as_its_weight() {
        let mut weighted = Weighted::new(Hashed::RoutingKey);
        assert_eq!(weighted.pick(1), None);
        for (number, name, weight) in [(1, "a", 1), (2, "b", 2), (3, "c", 1)] {
            weighted.add(queue(number), name, weight);
        }
        let all = picked(&weighted);
        for (number, expected) in [(1, 2_500), (2, 5_000), (3, 2_500)] {
            let count = all.iter().filter(|picked| **picked == Some(queue(number))).count();
            assert!(count.abs_diff(expected) < 250, "{number}: {count}");
        }
    }

    #[test]
    fn a_removed_destination_moves_only_what_it_had() {
        let mut weighted = Weighted::new(Hashed::RoutingKey);
        for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
            weighted.add(queue(number), name, 1);
        }
        let before = picked(&weighted);
        weighted.remove(queue(1), 1);
        let moved = before.iter().zip(picked(&weighted)).filter(|(before, after)| **before != *after);
        assert!(moved.clone().count() > 3_000 && moved.clone().all(|(before, _)| *before == Some(queue(1))));
    }

    #[test]
    fn a_random_destination_is_any_of_them() {
        let mut random = Random::new(7);
        assert_eq!(random.pick(), None);
        [queue(1), queue(2)].into_iter().for_each(|queue| random.add(queue));
        let first = (0..1_000).filter(|_| random.pick() == Some(queue(1))).count();
        assert!(first.abs_diff(500) < 100, "{first}");
    }

    #[test]
    fn destinations_come_and_go_in_any_order() {
        let mut random = Random::new(7);
        let mut expected = Vec::new();
        let mut order = crate::random::Random(1);
        for _ in 0..2_000 {
            let queue = queue(order.below(20));
            match expected.iter().position(|other| *other == queue) {
                Some(index) if order.below(2) == 0 => {
                    expected.swap_remove(index);
                    random.remove(queue);
                }
                _ => {
                    expected.push(queue);
                    random.add(queue);
                }
            }
            let sorted = |all: &[Destination]| {
                let mut all = all.to_vec();
                all.sort_unstable();
                all
            };
            assert_eq!(sorted(&random.all), sorted(&expected));
            let mut places = random.places.iter();
            assert!(places.all(|(queue, place)| random.all[*place as usize] == *queue));
            assert_eq!(random.places.len(), expected.len());
        }
    }
}
