use hopmq_app::{Header, HeaderName, State};

use crate::{Log, handle, sent};

struct User;

impl HeaderName for User {
    const NAME: &'static str = "x-user";
    type Value = u32;
}

async fn needed(user: Header<User>, State(log): State<Log>) {
    log.add(user.0.to_string());
}

async fn optional(user: Option<Header<User>>, State(log): State<Log>) {
    log.add(user.map_or("none".to_owned(), |user| user.0.to_string()));
}

fn messages() -> [crate::Sent; 4] {
    let mut all = [sent("", ""), sent("", ""), sent("", ""), sent("", "")];
    all[1].properties = all[1].properties.clone().with_header("x-user", 7);
    all[2].properties = all[2].properties.clone().with_header("x-user", "seven");
    all[3].properties = all[3].properties.clone().with_header("x-user", -7);
    all
}

#[test]
fn a_header_that_is_missing_or_of_another_type_is_rejected() {
    let done = handle(needed, messages());
    assert_eq!(done.log, ["7"]);
    assert_eq!(done.classes(), ["header"; 3]);
    assert_eq!(done.reasons()[0], "the header \"x-user\" is missing");
    assert!(done.reasons()[1].ends_with("not an integer of 0 to 4,294,967,295"), "{:?}", done.dead);
}

#[test]
fn an_optional_header_is_none_only_if_it_is_missing() {
    let done = handle(optional, messages());
    assert_eq!(done.log, ["none", "7"]);
    assert_eq!(done.classes(), ["header"; 2]);
}
