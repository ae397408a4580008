//! The compile errors of `#[rpc]`, each at the place that must change.

#[test]
fn what_does_not_fit_is_said_where_it_is() {
    trybuild::TestCases::new().compile_fail("tests/rpc/*.rs");
}
