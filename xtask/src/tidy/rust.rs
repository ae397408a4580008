//! Rules for Rust that clippy does not have. They rely on rustfmt: an item ends with a brace as deep as its first line.

use super::Finding;

const FILE_LINES: usize = 600;

/// Written so that this file does not break its own rules.
const IGNORE: &str = concat!("#[", "ignore");
const SLEEP: &str = concat!("thread::", "sleep(");

/// The crates of the npm package, in which `{:?}` prints nothing. Its TLS is the browser's.
const IN_BROWSERS: [&str; 3] = ["core/src/", "proto/src/", "wasm/src/"];
const NATIVE: &str = "core/src/io/tls/";
const DEBUG: &str = concat!(":", "?}");

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    if lines.len() > FILE_LINES {
        let what = format!("{} lines, the limit is {FILE_LINES}: split the file by subject", lines.len());
        findings.push(Finding::new(file, FILE_LINES, what));
    }
    let is_test_file = is_test_file(file);
    let is_in_browsers = IN_BROWSERS.iter().any(|folder| file.starts_with(folder)) && !file.starts_with(NATIVE);
    let mut tests_end = None;
    let mut debug_end = None;
    for (at, line) in lines.iter().enumerate() {
        if line.trim_start() == "#[cfg(test)]" && tests_end.is_none_or(|end| at > end) {
            tests_end = Some(end_of_item(&lines, at));
        }
        let is_test = is_test_file || tests_end.is_some_and(|end| at <= end);
        let code = without_comment(line);
        if code.starts_with("impl") && code.contains("Debug for ") {
            debug_end = Some(end_of_item(&lines, at));
        }
        let is_debug = debug_end.is_some_and(|end| at <= end) || code.contains("debug_assert");
        if is_in_browsers && !is_test && !is_debug && code.contains(DEBUG) {
            let what = format!("{{{DEBUG} prints nothing in the npm package: show it with Quoted or Elapsed");
            findings.push(Finding::new(file, at + 1, what));
        }
        if code.contains(IGNORE) {
            findings.push(Finding::new(file, at + 1, format!("{IGNORE}…: make the test run, or remove it")));
        }
        if is_test && code.contains(SLEEP) {
            let what = format!("{SLEEP}…) in a test: await the event, or advance a virtual clock");
            findings.push(Finding::new(file, at + 1, what));
        }
    }
    findings
}

/// Whether the file contains only tests.
fn is_test_file(file: &str) -> bool {
    file.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// The last line of the item that begins on line `at`: a closing brace as deep as that line, or a line that is a
/// complete item. An item without such an end counts as one line.
fn end_of_item(lines: &[&str], at: usize) -> usize {
    let depth = lines[at].len() - lines[at].trim_start().len();
    let is_end = |line: &str| line.len() - line.trim_start().len() == depth && line.trim_start().starts_with('}');
    let is_line = |line: &str| line.len() - line.trim_start().len() == depth && line.ends_with([';', '}']);
    let end = lines[at..].iter().position(|line| is_end(line) || is_line(line));
    end.map_or(at, |length| at + length)
}

/// The line up to its comment. A `//` in a string cuts it off too, which at worst misses a finding.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(lines("a.rs", &"x\n".repeat(601)), [600]);
        assert!(lines("a.rs", &"x\n".repeat(600)).is_empty());
    }

    #[test]
    fn an_ignored_test_is_found_outside_comments() {
        assert_eq!(lines("a.rs", &format!("let a = 1;\n{IGNORE}]\n")), [2]);
        assert!(lines("a.rs", &format!("// {IGNORE}]\n")).is_empty());
    }

    #[test]
    fn a_text_that_the_npm_package_does_not_show_is_found() {
        let text = format!("let text = format!(\"no {{name{DEBUG}\");\n");
        let debug = format!("impl fmt::Debug for A {{\n    {text}}}\n#[cfg(test)]\nmod tests {{\n    {text}}}\n");
        assert_eq!(lines("core/src/a.rs", &format!("{debug}{text}")), [8]);
        assert!(lines("core/src/a.rs", &format!("debug_assert!(false, \"{{a{DEBUG}\");\n")).is_empty());
        assert!(lines("core/src/io/tls/a.rs", &text).is_empty() && lines("broker/src/a.rs", &text).is_empty());
    }

    #[test]
    fn tests_end_with_their_module() {
        let sleep = format!("{SLEEP}second);\n");
        let tests = format!("#[cfg(test)]\nmod tests {{\n    {sleep}}}\n");
        let text = format!("/// {sleep}{sleep}{tests}{sleep}#[cfg(test)]\nmod more;\n{sleep}");
        assert_eq!(lines("core/src/a.rs", &text), [5]);
        assert_eq!(lines("core/tests/a.rs", &text), [2, 5, 7, 10]);
    }

    #[test]
    fn a_test_that_sleeps_is_found() {
        let sleep = format!("std::{SLEEP}second);\n");
        assert_eq!(lines("tests/tests/a.rs", &sleep), [1]);
        assert_eq!(lines("core/src/a.rs", &format!("{sleep}#[cfg(test)]\nmod tests {{\n    {sleep}}}\n")), [4]);
        assert!(lines("core/src/a.rs", &sleep).is_empty());
    }
}
