//! Random bytes never cause a panic in the codec, and accepted values survive a round trip.

mod bodies;

use hopmq_proto::method::{Encode, basic, connection, queue};
use hopmq_proto::{FieldArray, FieldTable, Properties};
use proptest::collection::vec;
use proptest::prelude::*;

/// Well-formed bytes for mutations.
fn seeds() -> Vec<Vec<u8>> {
    let inner = FieldTable::from([("l", 1i64), ("n", -1)]);
    let list = FieldArray::new().with("a").with(&inner).with(()).with(2.5);
    let table =
        FieldTable::new().with("capabilities", &inner).with("list", &list).with("bytes", b"\x00\xff").with("yes", true);
    let properties =
        Properties::new().with_content_type("text/plain").with_headers(&table).with_timestamp(1).with_kind("k");
    let mut encoded = vec![Vec::new(); 5];
    properties.encode(&mut encoded[0]).unwrap();
    encoded[1].extend_from_slice(table.as_bytes());
    let arguments = table.as_ref_table();
    queue::Declare { queue: "q", durable: true, arguments, ..Default::default() }.encode(&mut encoded[2]).unwrap();
    basic::Deliver { consumer_tag: "c", routing_key: "k", ..Default::default() }.encode(&mut encoded[3]).unwrap();
    connection::Start { server_properties: arguments, ..Default::default() }.encode(&mut encoded[4]).unwrap();
    encoded
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(seeds()), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, cut, truncate)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if truncate {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

/// Random bytes behind the number of a method, known or unknown.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let class = prop_oneof![Just(60u16), Just(10), Just(20), Just(40), Just(50), Just(85), Just(90), any::<u16>()];
    (class, 0..130u16, vec(any::<u8>(), 0..64)).prop_map(|(class, method, rest)| {
        let mut bytes = Vec::from(class.to_be_bytes());
        bytes.extend_from_slice(&method.to_be_bytes());
        bytes.extend_from_slice(&rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_methods_are_refused_or_survive_a_round_trip(bytes in prop_oneof![payload(), mutated()]) {
        bodies::method(&bytes);
    }

    #[test]
    fn random_tables_are_refused_or_survive_a_round_trip(bytes in prop_oneof![vec(any::<u8>(), 0..64), mutated()]) {
        bodies::table(&bytes);
    }

    #[test]
    fn random_properties_are_refused_or_survive_a_round_trip(bytes in prop_oneof![vec(any::<u8>(), 0..64), mutated()]) {
        bodies::properties(&bytes);
    }
}
