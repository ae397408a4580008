use garde::Validate;
use hopmq_app::{Cbor, Json, State, Valid};

use crate::{Log, handle, sent};

#[derive(serde::Deserialize, Validate)]
struct Order {
    #[garde(range(min = 1))]
    id: u32,
    #[garde(dive, length(max = 2))]
    items: Vec<Item>,
}

#[derive(serde::Deserialize, Validate)]
struct Item {
    #[garde(length(min = 1))]
    name: String,
}

async fn on_order(Valid(Json(order)): Valid<Json<Order>>, State(log): State<Log>) {
    let names = order.items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>();
    log.add(format!("{} {}", order.id, names.join(",")));
}

#[test]
fn what_breaks_a_rule_is_dead_lettered_with_each_field_and_its_reason() {
    let done = handle(
        on_order,
        [
            sent("", r#"{"id":1,"items":[{"name":"tea"}]}"#),
            sent("", r#"{"id":0,"items":[{"name":"tea"},{"name":""}]}"#),
            sent("", "{"),
        ],
    );
    assert_eq!(done.log, ["1 tea"]);
    assert_eq!(done.classes(), ["invalid", "decode"]);
    let rules = "the body breaks rules: id: lower than 1; items[1].name: length is lower than 1";
    assert_eq!(done.reasons()[0], rules);
}

#[derive(serde::Deserialize, Validate)]
#[garde(transparent)]
struct Name(#[garde(length(min = 1))] String);

#[test]
fn a_reason_with_very_many_fields_stays_short() {
    #[derive(serde::Deserialize, Validate)]
    struct Names(#[garde(dive)] Vec<Name>);

    async fn names(_: Valid<Json<Names>>) {}
    let body = format!("[{}\"\"]", "\"\",".repeat(99_999));
    let done = handle(names, [sent("", body)]);
    assert!(done.reasons()[0].ends_with("; and 99980 more"), "{:?}", done.dead);
}

#[test]
fn each_format_and_an_optional_one_can_be_valid() {
    async fn name(name: Option<Valid<Cbor<Name>>>, State(log): State<Log>) {
        log.add(name.map_or("none".to_owned(), |Valid(Cbor(name))| name.0));
    }
    let done = handle(name, [sent("", ""), sent("", b"\x63tea".to_vec()), sent("", b"\x60".to_vec())]);
    assert_eq!(done.log, ["none", "tea"]);
    assert_eq!(done.classes(), ["invalid"]);
}
