//! Each compile error names what does not fit, and says what to write.
//!
//! `TRYBUILD=overwrite cargo test -p hopmq-app-macros --test ui` writes the `.stderr` files anew.

#[test]
fn compile_errors_name_the_argument_and_the_remedy() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
