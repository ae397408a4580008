//! Compares the codec with two others on random input: `amq-protocol`, and a naive encoder driven by the specification.

#[path = "oracle/naive.rs"]
mod naive;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, FieldTable as TheirTable};
use hopmq_proto::method::{Method, MethodId};
use hopmq_proto::{FieldTable, Properties, Value};
use naive::{Tree, any_table, payloads, short_string, specification};
use proptest::prelude::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], &len[..], payload, &[0xce]].concat()
}

fn payload(frame: &[u8]) -> &[u8] {
    &frame[7..frame.len() - 1]
}

fn parsed_by_amq_protocol(kind: u8, payload: &[u8]) -> AMQPFrame {
    let bytes = frame(kind, payload);
    let (rest, frame) = parse_frame(&bytes[..]).expect("amq-protocol parses the frame");
    assert!(rest.is_empty());
    frame
}

fn written_by_amq_protocol(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).expect("amq-protocol writes the frame").into_inner().0
}

#[test]
fn the_methods_are_those_of_the_specification() {
    let known: Vec<_> = (0..200u16)
        .flat_map(|class| (0..200u16).map(move |method| MethodId { class, method }))
        .filter(|id| id.is_known())
        .map(|id| (id.class, id.method, id.name().to_string(), id.has_content(), id.is_synchronous()))
        .collect();
    let mut specified: Vec<_> = specification()
        .iter()
        .flat_map(|class| class.methods.iter().map(move |method| (class, method)))
        .map(|(class, method)| {
            let name = format!("{}.{}", class.name, method.name);
            (class.id, method.id, name, method.content, method.synchronous)
        })
        .collect();
    specified.sort();
    assert_eq!(known, specified);
}

/// Returns whether all keys are UTF-8, nested ones too.
fn has_text_keys(table: FieldTable<&[u8]>) -> bool {
    table.iter_bytes().all(|(key, value)| std::str::from_utf8(key).is_ok() && has_text_keys_inside(value))
}

fn has_text_keys_inside(value: Value<'_>) -> bool {
    match value {
        Value::Table(table) => has_text_keys(table),
        Value::Array(array) => array.iter().all(has_text_keys_inside),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Decoding and encoding a method, here and in `amq-protocol`, reproduces its bytes.
    #[test]
    fn methods_match_amq_protocol(bytes in payloads()) {
        let ours = Method::decode(&bytes).expect("a well-formed method");
        let mut encoded = Vec::new();
        ours.encode(&mut encoded).unwrap();
        prop_assert_eq!(&encoded, &bytes, "{:?}", ours);
        let theirs = parsed_by_amq_protocol(1, &encoded);
        let theirs = written_by_amq_protocol(&theirs);
        prop_assert_eq!(payload(&theirs), &encoded[..], "{:?}", ours);
    }

    #[test]
    fn a_missing_or_extra_byte_is_refused(bytes in payloads()) {
        prop_assert!(Method::decode(&bytes[..bytes.len() - 1]).is_err());
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(Method::decode(&longer).unwrap_err().code(), 502);
    }

    #[test]
    fn tables_match_the_naive_encoder_and_amq_protocol(tree in any_table()) {
        let ours = tree.ours();
        prop_assert!(ours.validity().is_ok());
        let mut naive = Vec::new();
        tree.encode(&mut naive);
        prop_assert_eq!(ours.as_bytes(), &naive[5..]);
        let parsed = FieldTable::parse(ours.as_bytes()).unwrap();
        prop_assert_eq!(Tree::from_table(parsed), tree.clone());
        let theirs = headers_of_amq_protocol(&Properties::new().with_headers(&ours));
        prop_assert_eq!(AMQPValue::FieldTable(theirs), tree.theirs());
    }

    /// This crate is stricter than `amq-protocol`, except that it takes any bytes as a key, like RabbitMQ.
    #[test]
    fn amq_protocol_accepts_what_this_crate_accepts(
        tree in any_table(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = tree.ours().as_bytes().to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(table) = FieldTable::parse(&bytes[..])
            && has_text_keys(table)
        {
            let theirs = headers_of_amq_protocol(&Properties::new().with_headers(&table));
            for (key, value) in table.iter() {
                prop_assert!(theirs.contains_key(key), "{} {:?}", key, value);
            }
        }
    }

    #[test]
    fn properties_match_amq_protocol(all in any_properties()) {
        let (ours, theirs) = all;
        ours.check().unwrap();
        let mut encoded = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        ours.encode(&mut encoded).unwrap();
        let header = AMQPContentHeader { class_id: 60, body_size: 9, properties: theirs };
        let expected = AMQPFrame::Header(1, header);
        let written = written_by_amq_protocol(&expected);
        prop_assert_eq!(payload(&written), &encoded[..], "{:?}", ours);
        prop_assert_eq!(parsed_by_amq_protocol(2, &encoded), expected);
        let flags = u16::from_be_bytes([encoded[12], encoded[13]]);
        let back = Properties::from_parts(flags, &encoded[14..]);
        prop_assert_eq!(format!("{back:?}"), format!("{ours:?}"));
    }
}

fn headers_of_amq_protocol(properties: &Properties) -> TheirTable {
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    properties.encode(&mut payload).unwrap();
    match parsed_by_amq_protocol(2, &payload) {
        AMQPFrame::Header(_, header) => header.properties.headers().clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Equal properties of this crate and of `amq-protocol`. The former are set twice, to test replacing.
fn any_properties() -> impl Strategy<Value = (Properties, BasicProperties)> {
    let texts = prop::collection::vec(prop::option::of(short_string()), 10);
    let octets = prop::collection::vec(prop::option::of(any::<u8>()), 2);
    let rest = (prop::option::of(any::<u64>()), prop::option::of(any_table()), any::<u64>());
    (texts, octets, rest).prop_map(|(texts, octets, (timestamp, headers, order))| {
        let mut theirs = BasicProperties::default();
        let mut ours = Properties::new();
        macro_rules! both {
            ($($set:ident $value:expr, $theirs:expr;)*) => {
                $(if let Some(value) = $value { theirs = theirs.$set($theirs(value)); })*
                let mut steps: Vec<Box<dyn Fn(Properties) -> Properties + '_>> = Vec::new();
                $(if let Some(value) = $value { steps.push(Box::new(move |to| to.$set(value))); })*
                // In any order, some of them twice.
                for round in 0..2 * steps.len() {
                    let step = (order as usize).wrapping_mul(round + 1) % steps.len();
                    ours = steps[step](ours);
                }
                for step in &steps {
                    ours = step(ours);
                }
            };
        }
        let texts: Vec<_> = texts.iter().map(|text| text.as_deref()).collect();
        both! {
            with_content_type texts[0], Into::into;
            with_content_encoding texts[1], Into::into;
            with_delivery_mode octets[0], Into::into;
            with_priority octets[1], Into::into;
            with_correlation_id texts[2], Into::into;
            with_reply_to texts[3], Into::into;
            with_expiration texts[4], Into::into;
            with_message_id texts[5], Into::into;
            with_timestamp timestamp, Into::into;
            with_user_id texts[7], Into::into;
            with_app_id texts[8], Into::into;
            with_cluster_id texts[9], Into::into;
        }
        if let Some(kind) = texts[6] {
            theirs = theirs.with_type(kind.into());
            ours = ours.with_kind("before").with_kind(kind);
        }
        if let Some(tree) = &headers {
            if let AMQPValue::FieldTable(table) = tree.theirs() {
                theirs = theirs.with_headers(table);
            }
            let table = tree.ours();
            let mut entries = table.iter();
            ours = match entries.next() {
                Some((key, _)) => {
                    entries.fold(ours.with_header(key, "before"), |to, (key, value)| to.with_header(key, value))
                }
                None => ours.with_headers(&table),
            };
            if let Some((key, value)) = table.iter().next() {
                ours = ours.with_header(key, value);
            }
        }
        (ours, theirs)
    })
}
