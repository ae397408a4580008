//! Lines of Rust, JavaScript, TypeScript and Markdown have at most 120 characters.
//!
//! Rustfmt only breaks code, so this finds comments and strings. Rows of tables and lines with a URL are exempt,
//! because they cannot be broken.

use super::Finding;

const WIDTH: usize = 120;
const KINDS: [&str; 6] = [".rs", ".js", ".mjs", ".cjs", ".ts", ".md"];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    if !KINDS.iter().any(|kind| file.ends_with(kind)) {
        return Vec::new();
    }
    let is_prose = file.ends_with(".md");
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let width = line.chars().count();
        if width > WIDTH && !is_row(line, is_prose) && !line.contains("://") {
            let what = format!("{width} characters wide, the limit is {WIDTH}: break the line");
            findings.push(Finding::new(file, number, what));
        }
    }
    findings
}

/// Whether a line is a row of a table, in Markdown or in a comment.
fn is_row(line: &str, is_prose: bool) -> bool {
    let line = line.trim_start();
    let text = if is_prose { Some(line) } else { line.strip_prefix("//") };
    text.is_some_and(|text| text.trim_start_matches(['/', '!', ' ']).starts_with('|'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn the_width_of_a_line_is_counted_in_characters() {
        let text = format!("{}\n{}\n{}\n", "x".repeat(120), "x".repeat(121), "→".repeat(120));
        for kind in KINDS {
            assert_eq!(lines(&format!("a{kind}"), &text), [2], "{kind}");
        }
        assert!(lines("a.svg", &text).is_empty());
    }

    #[test]
    fn wide_comments_and_wide_indented_prose_are_found() {
        let wide = "a word ".repeat(20);
        assert_eq!(lines("a.rs", &format!("/// {wide}\n    // {wide}\n")), [1, 2]);
        assert_eq!(lines("a.md", &format!("# {wide}\n- {wide}\n  {wide}\n```\n{wide}\n```\n")), [1, 2, 3, 5]);
    }

    #[test]
    fn rows_of_tables_and_lines_with_a_url_are_exempt() {
        let row = format!("| {} |", "cell ".repeat(30));
        let address = format!("https://{}", "x".repeat(120));
        assert!(lines("a.md", &format!("{row}\n  {row}\n[a]: {address}\n```\ncurl {address}\n```\n")).is_empty());
        assert!(lines("a.rs", &format!("//! {row}\n    /// {row}\n// {address}\n")).is_empty());
        assert_eq!(lines("a.rs", &row), [1], "this row is not in a comment");
    }
}
