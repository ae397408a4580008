//! Invariants of the codec for any input bytes. `robust.rs` calls them with random bytes, the fuzz targets with theirs.

use hopmq_proto::method::Method;
use hopmq_proto::{Error, Fault, FieldArray, FieldTable, Properties, Value};

/// The payload of a method frame is refused as the peer's fault, or survives a round trip.
pub(crate) fn method(payload: &[u8]) {
    let method = match Method::decode(payload) {
        Ok(method) => method,
        Err(error) => return blames_the_peer(&error),
    };
    let id = method.id();
    assert!(id.is_known() && (id.from_client() || id.from_server()), "{id}");
    let mut encoded = Vec::new();
    method.encode(&mut encoded).expect("a decoded method can be encoded");
    assert!(encoded.len() <= payload.len(), "{method:?}");
    assert_eq!(Method::decode(&encoded).as_ref(), Ok(&method));
}

/// The entries of a table are refused as the peer's fault, or can be read, found and copied.
pub(crate) fn table(bytes: &[u8]) {
    match FieldTable::parse(bytes) {
        Ok(table) => same_table(table),
        Err(error) => blames_the_peer(&error),
    }
    match FieldArray::parse(bytes) {
        Ok(array) => same_array(array),
        Err(error) => blames_the_peer(&error),
    }
}

/// The readers of a property list never fail, and a well-formed list can be copied property by property.
pub(crate) fn properties(bytes: &[u8]) {
    let Some((flags, list)) = bytes.split_first_chunk() else { return };
    let properties = Properties::from_parts(u16::from_be_bytes(*flags), list);
    let copy = copied(properties);
    assert!(!format!("{properties:?}").is_empty());
    match properties.check() {
        Ok(()) if is_utf8(properties) => assert_eq!(copy, properties),
        Ok(()) => assert_eq!(copy.flags(), properties.flags()),
        Err(error) => blames_the_peer(&error),
    }
    let changed = properties.to_owned_properties().with_header("x", 1).with_app_id("app").with_persistent();
    if changed.validity().is_ok() && properties.check().is_ok() {
        assert_eq!(changed.app_id(), Some("app"));
        assert!(changed.is_persistent());
        changed.check().expect("a changed list is well-formed");
    }
}

fn blames_the_peer(error: &Error) {
    assert_eq!(error.fault(), Fault::Peer, "{error}");
    assert!((501..=541).contains(&error.code()), "{error}");
}

fn same_table(table: FieldTable<&[u8]>) {
    assert_eq!(table.iter().count(), table.len());
    assert!(!format!("{table:?}").is_empty());
    let mut copy = FieldTable::new();
    for (key, value) in table.iter_bytes() {
        assert!(table.get_bytes(key).is_some());
        same_value(value);
        if let Ok(key) = std::str::from_utf8(key) {
            assert!(table.contains_key(key));
            copy.insert(key, value);
        }
    }
    copy.validity().expect("a parsed value can be inserted");
    assert!(copy.as_bytes().len() <= table.as_bytes().len());
    assert_eq!(FieldTable::parse(copy.as_bytes()).as_ref(), Ok(&copy.as_ref_table()));
}

fn same_array(array: FieldArray<&[u8]>) {
    array.iter().for_each(same_value);
    let copy: FieldArray = array.iter().collect();
    copy.validity().expect("a parsed value can be pushed");
    assert_eq!(copy.len(), array.len());
    assert_eq!(copy.as_bytes().len(), array.as_bytes().len());
    assert!(FieldArray::parse(copy.as_bytes()).is_ok());
}

fn same_value(value: Value<'_>) {
    match value {
        Value::Table(table) => same_table(table),
        Value::Array(array) => same_array(array),
        _ => {}
    }
}

/// Whether all texts of a list are UTF-8, so that a copy of them is the same.
fn is_utf8(properties: Properties<&[u8]>) -> bool {
    let texts = [
        properties.content_type_bytes(),
        properties.content_encoding_bytes(),
        properties.correlation_id_bytes(),
        properties.reply_to_bytes(),
        properties.expiration_bytes(),
        properties.message_id_bytes(),
        properties.kind_bytes(),
        properties.user_id_bytes(),
        properties.app_id_bytes(),
        properties.cluster_id_bytes(),
    ];
    texts.into_iter().flatten().all(|text| std::str::from_utf8(text).is_ok())
}

fn copied(from: Properties<&[u8]>) -> Properties {
    macro_rules! copy {
        ($($read:ident $write:ident)*) => {{
            let mut to = Properties::new();
            $(if let Some(value) = from.$read() { to = to.$write(value); })*
            to
        }};
    }
    let to = copy! {
        cluster_id with_cluster_id app_id with_app_id user_id with_user_id kind with_kind
        timestamp with_timestamp message_id with_message_id expiration with_expiration reply_to with_reply_to
        correlation_id with_correlation_id priority with_priority delivery_mode with_delivery_mode
        content_encoding with_content_encoding content_type with_content_type
    };
    match from.headers() {
        Ok(headers) if from.flags() & 1 << 13 != 0 => to.with_headers(&headers),
        _ => to,
    }
}
