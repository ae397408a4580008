//! Rules for every text file.

use super::Finding;

/// Folders of one person's machine. Written so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("../sha", "red"),
];

/// Markers of unfinished work.
const UNDONE: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(file, number, "trailing whitespace: remove it"));
        }
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(Finding::new(
                file,
                number,
                format!("{path}… is a folder of one machine: use a relative path"),
            ));
        }
        for word in UNDONE.iter().filter(|word| has_word(line, word)) {
            findings.push(Finding::new(
                file,
                number,
                format!("{word}: finish the work, or open an issue and remove the marker"),
            ));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(file, text.lines().count(), "no newline at the end of the file: add it"));
    }
    findings
}

/// Whether a path in `line` begins with `path`, rather than contains it.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~".contains(c)))
}

pub(super) fn has_word(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(in_word) && !line[at + word.len()..].starts_with(in_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(text: &str) -> Vec<String> {
        check("a.md", text).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn trailing_whitespace_is_found_with_its_line() {
        let findings = check("a.md", "fine\nnot fine \n");
        assert_eq!(findings, [Finding::new("a.md", 2, "trailing whitespace: remove it")]);
    }

    #[test]
    fn a_missing_newline_at_the_end_is_found() {
        assert_eq!(whats("fine").len(), 1);
        assert!(whats("").is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_found_but_not_inside_a_longer_path() {
        for path in MACHINE_PATHS {
            assert_eq!(whats(&format!("see {path}x\n")).len(), 1, "{path}");
            assert!(whats(&format!("https://example.com{path}x\n")).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_marker_of_unfinished_work_is_found_as_a_whole_word() {
        for word in UNDONE {
            assert_eq!(whats(&format!("// {word}: later\n")).len(), 1, "{word}");
            assert!(whats(&format!("a{word}b\n")).is_empty(), "{word}");
        }
    }
}
