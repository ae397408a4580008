//! Rules for every text file.

use super::Finding;

/// Folders of one person's machine, written so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("../sha", "red"),
];

/// Words for work that was left undone.
const UNDONE: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(file, number, "trailing whitespace: remove it"));
        }
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(Finding::new(file, number, format!("a folder of one machine ({path}): say it without")));
        }
        for word in UNDONE.iter().filter(|word| has_word(line, word)) {
            findings.push(Finding::new(file, number, format!("{word}: do it now, or open an issue and drop the note")));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(file, text.lines().count(), "no newline at the end of the file: add it"));
    }
    findings
}

/// Whether `path` begins a path in `line`, rather than going on with a longer one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~".contains(c)))
}

fn has_word(line: &str, word: &str) -> bool {
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
    fn whitespace_at_the_end_is_found_with_its_line() {
        let findings = check("a.md", "fine\nnot fine \n");
        assert_eq!(findings, [Finding::new("a.md", 2, "trailing whitespace: remove it")]);
    }

    #[test]
    fn a_file_ends_with_a_newline() {
        assert_eq!(whats("fine").len(), 1);
        assert!(whats("").is_empty());
    }

    #[test]
    fn machine_paths_are_found_where_they_begin() {
        for path in MACHINE_PATHS {
            assert_eq!(whats(&format!("see {path}x\n")).len(), 1, "{path}");
            assert!(whats(&format!("https://example.com{path}x\n")).is_empty(), "{path}");
        }
    }

    #[test]
    fn undone_work_is_found_as_a_whole_word() {
        for word in UNDONE {
            assert_eq!(whats(&format!("// {word}: later\n")).len(), 1, "{word}");
            assert!(whats(&format!("a{word}b\n")).is_empty(), "{word}");
        }
    }
}
