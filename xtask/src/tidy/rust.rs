//! Rules for Rust, read line by line. They lean on rustfmt: an item ends with a brace as deep as its first line.

use super::Finding;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 100;

/// Words that no code keeps, and what to do instead. Written so that this file does not break its own rule.
const BANNED: [(&str, &str); 4] = [
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it, or return an error"),
    (concat!("dbg", "!("), "remove it"),
    (concat!("#[", "ignore"), "a test runs or it goes: make it run, or remove it"),
];
const UNWRAP: &str = concat!(".unwrap", "()");
const SLEEP: &str = concat!("thread::", "sleep(");

/// Libraries, where a panic is somebody else's.
const LIBRARIES: [&str; 3] = ["proto/src/", "core/src/", "blocking/src/"];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    if lines.len() > FILE_LINES {
        let what = format!("{} lines, the limit is {FILE_LINES}: it has two jobs, split it", lines.len());
        findings.push(Finding::new(file, FILE_LINES, what));
    }
    findings.extend(long_functions(file, &lines));

    let is_test_file = is_test_file(file);
    let is_library = LIBRARIES.iter().any(|folder| file.starts_with(folder)) && !is_test_file;
    let mut tests_end = None;
    for (at, line) in lines.iter().enumerate() {
        if line.trim_start() == "#[cfg(test)]" && tests_end.is_none_or(|end| at > end) {
            tests_end = Some(end_of_item(&lines, at));
        }
        let is_test = is_test_file || tests_end.is_some_and(|end| at <= end);
        let code = without_comment(line);
        for (word, remedy) in BANNED.iter().filter(|(word, _)| code.contains(word)) {
            findings.push(Finding::new(file, at + 1, format!("{word}…: {remedy}")));
        }
        if is_library && !is_test && code.contains(UNWRAP) {
            let what = format!("{UNWRAP} in a library: return an error, or `expect` with why it cannot be");
            findings.push(Finding::new(file, at + 1, what));
        }
        if is_test && code.contains(SLEEP) {
            let what = format!("{SLEEP}…) in a test: await the event, or turn a virtual clock");
            findings.push(Finding::new(file, at + 1, what));
        }
    }
    findings
}

/// Files that hold nothing but tests.
fn is_test_file(file: &str) -> bool {
    file.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

fn long_functions(file: &str, lines: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let length = end_of_item(lines, at) - at + 1;
        if is_function(line) && length > FUNCTION_LINES {
            let what =
                format!("a function of {length} lines, the limit is {FUNCTION_LINES}: it has two jobs, split it");
            findings.push(Finding::new(file, at + 1, what));
        }
    }
    findings
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let modifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern", "\"C\""];
    words.find(|word| !modifiers.contains(word)) == Some("fn")
}

/// The last line of the item that begins on line `at`: a closing brace as deep as that line, or a line that is an item
/// by itself. One that has no such end is taken to be one line long.
fn end_of_item(lines: &[&str], at: usize) -> usize {
    let depth = lines[at].len() - lines[at].trim_start().len();
    let is_end = |line: &str| line.len() - line.trim_start().len() == depth && line.trim_start().starts_with('}');
    let is_line = |line: &str| line.len() - line.trim_start().len() == depth && line.ends_with([';', '}']);
    let end = lines[at..].iter().position(|line| is_end(line) || is_line(line));
    end.map_or(at, |length| at + length)
}

/// The line up to its comment. A `//` in a string cuts it short, which loses a finding at worst.
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
    fn long_files_are_found() {
        assert_eq!(lines("a.rs", &"x\n".repeat(601)), [600]);
        assert!(lines("a.rs", &"x\n".repeat(600)).is_empty());
    }

    #[test]
    fn long_functions_are_found() {
        let text =
            |body| format!("mod a {{\n    pub(crate) async fn f() {{\n{}    }}\n}}\n", "        x;\n".repeat(body));
        assert!(lines("a.rs", &text(98)).is_empty());
        assert_eq!(lines("a.rs", &text(99)), [2]);
        assert!(!is_function("fnord fn") && is_function("const unsafe fn f() {"));
    }

    #[test]
    fn banned_words_are_found_in_code_alone() {
        for (word, _) in BANNED {
            assert_eq!(lines("a.rs", &format!("let a = 1;\n{word}\n")), [2], "{word}");
            assert!(lines("a.rs", &format!("// {word}\n")).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_library_does_not_unwrap() {
        let unwrap = format!("a{UNWRAP};\n");
        let tests = format!("#[cfg(test)]\nmod tests {{\n    {unwrap}}}\n");
        let text = format!("/// {unwrap}{unwrap}{tests}{unwrap}#[cfg(test)]\nmod more;\n{unwrap}");
        assert_eq!(lines("core/src/a.rs", &text), [2, 7, 10]);
        assert!(lines("xtask/src/a.rs", &text).is_empty());
        assert!(lines("core/src/tests/a.rs", &text).is_empty());
        assert!(lines("core/tests/a.rs", &text).is_empty());
    }

    #[test]
    fn a_test_does_not_sleep() {
        let sleep = format!("std::{SLEEP}second);\n");
        assert_eq!(lines("tests/tests/a.rs", &sleep), [1]);
        assert_eq!(lines("core/src/a.rs", &format!("{sleep}#[cfg(test)]\nmod tests {{\n    {sleep}}}\n")), [4]);
        assert!(lines("core/src/a.rs", &sleep).is_empty());
    }
}
