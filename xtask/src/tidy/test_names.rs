//! A test that a document names exists.
//!
//! A name is text in backticks with at least three underscores, on a page that links to tests. A row of a table names
//! tests of the files that it links to or, if it has no link, of the row before it. Other text names tests of any file
//! that the page links to.

use std::collections::BTreeMap;

use super::Finding;
use super::links::targets;

/// Finds names of tests that do not exist. `read` returns the text of a file that the page links to.
pub(super) fn check(file: &str, text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut files = BTreeMap::new();
    for target in text.lines().flat_map(targets).filter(|target| target.ends_with(".rs")) {
        files.entry(target).or_insert_with(|| read(target).unwrap_or_default());
    }
    files.retain(|target, text| target.contains("tests/") || text.contains("#[test]"));
    let mut findings = Vec::new();
    let mut latest = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let here: Vec<&str> = targets(line).into_iter().filter(|target| files.contains_key(target)).collect();
        if !here.is_empty() {
            latest = here;
        }
        let among: Vec<&str> = if line.starts_with('|') { latest.clone() } else { files.keys().copied().collect() };
        for name in names(line) {
            let there = |target: &&str| files.get(target).is_some_and(|text| text.contains(&format!("fn {name}(")));
            if !among.is_empty() && !among.iter().any(there) {
                let what = format!("{} has no test `{name}`: correct the name or the link", among.join(", "));
                findings.push(Finding::new(file, number, what));
            }
        }
    }
    findings
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    line.split('`').skip(1).step_by(2).filter(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_not_in_the_linked_file_is_found() {
        let page = "\
            | this | `it_does_this_and_that` in [one](../tests/one.rs) |\n\
            | that | `it_does_that_and_this`, `it_is_in_the_other` there |\n\
            | more | `it_is_in_the_other` in [two](../tests/two.rs) |\n\
            | gone | `it_does_this_and_that` there |\n\n\
            In text, `it_does_this_and_that` may be anywhere, but `it_is_nowhere_at_all` may not;\n\
            `not_a_name` is none.\n";
        let read = |target: &str| {
            let names = if target.ends_with("one.rs") {
                "fn it_does_this_and_that() {}\nfn it_does_that_and_this() {}"
            } else {
                "fn it_is_in_the_other() {}"
            };
            Some(names.to_owned())
        };
        let findings = check("docs/page.md", page, &read);
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 4, 6], "{findings:?}");
    }

    #[test]
    fn a_page_without_links_to_tests_is_skipped() {
        let page = "`a_b_c_d` and [text](src/lib.rs)";
        assert!(check("README.md", page, &|_| None).is_empty());
        assert_eq!(check("README.md", page, &|_| Some("#[test]\nfn b() {}".to_owned())).len(), 1);
    }
}
