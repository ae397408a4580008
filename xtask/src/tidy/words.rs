//! Words that read as translated, or that make a machine a person, do not appear in code and documents.

use super::Finding;
use super::text::has_word;

const KINDS: [&str; 3] = [".rs", ".md", ".ts"];

/// The words and what to write instead.
const WORDS: [(&str, &str); 8] = [
    ("whoever", "name the peer, the caller or the user"),
    ("somebody", "name the peer, the process or the user"),
    ("nobody", "name the missing thing: no client, no consumer, no broker"),
    ("mend", "write fix"),
    ("farewell", "write close or teardown"),
    ("goodbye", "write close or teardown"),
    ("nudge", "write wake"),
    ("culprit", "write cause, or name the offending peer"),
];

/// The places where a word is right: file and word.
const ALLOWED: &[(&str, &str)] = &[];

/// This file names the words.
const THIS_FILE: &str = "xtask/src/tidy/words.rs";

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    if file == THIS_FILE || !KINDS.iter().any(|kind| file.ends_with(kind)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.to_lowercase();
        for (word, advice) in WORDS.iter().filter(|(word, _)| has_word(&line, word)) {
            if !ALLOWED.contains(&(file, *word)) {
                findings.push(Finding::new(file, number, format!("\"{word}\": {advice}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found_as_a_whole_word_in_any_case() {
        for (word, _) in WORDS {
            let text = format!("fine\n// {}: it is.\nlet {word}s = 1;\n", word.to_uppercase());
            let findings = check("a.rs", &text);
            assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2], "{word}");
            assert!(check("a.json", &text).is_empty(), "{word}");
        }
        assert!(check("a.md", "recommended, amend, mended\n").is_empty());
    }
}
