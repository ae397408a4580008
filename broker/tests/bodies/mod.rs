//! What must hold for any definitions. The tests and the fuzz target `definitions` run this.

use hopmq_broker::{Broker, Clock};

fn broker() -> Broker {
    Broker::builder().clock(&Clock::manual()).by_hand()
}

/// Imports definitions. What is refused has changed nothing, and the error says where; what is taken is exported as it
/// can be imported again, without a change.
pub(crate) fn definitions(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    let broker = broker();
    let before = broker.definitions();
    let Err(error) = broker.import_definitions(json) else { return is_stable(&broker, json) };
    assert_eq!(broker.definitions(), before, "refused with {error}");
    let error = error.to_string();
    assert!(error.contains(" line ") || error.contains('"'), "it names no place: {error}");
    assert!(error.len() <= 200 + 200 * json.len(), "{} bytes of error for {} bytes", error.len(), json.len());
    match broker.import_supported_definitions(json) {
        Ok(_) => is_stable(&broker, json),
        Err(error) => assert_eq!(broker.definitions(), before, "refused with {error}"),
    }
}

fn is_stable(broker: &Broker, json: &str) {
    let exported = broker.definitions();
    // A virtual host or a queue is longer in an export than in its shortest definition.
    assert!(exported.len() <= 4_000 + 200 * json.len(), "{} bytes of export", exported.len());
    let again = self::broker();
    again.import_definitions(&exported).unwrap_or_else(|error| panic!("{error} in {exported}"));
    assert_eq!(again.definitions(), exported);
    broker.import_definitions(&exported).unwrap_or_else(|error| panic!("{error} in {exported}"));
    assert_eq!(broker.definitions(), exported);
}
