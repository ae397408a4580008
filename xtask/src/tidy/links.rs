//! Links in Markdown lead somewhere.

use super::Finding;

/// Finds links to files that `exists` does not know. Links to the web are not followed.
pub(super) fn check(file: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !is_elsewhere && !exists(path) {
                findings.push(Finding::new(file, number, format!("link to {path}, which does not exist: correct it")));
            }
        }
    }
    findings
}

/// What a line links to: `[text](target)` and `[name]: target`.
pub(super) fn targets(line: &str) -> Vec<&str> {
    let until = |text: &'static [char]| move |rest: &str| rest.find(text).unwrap_or(rest.len());
    let mut targets: Vec<&str> = line.split("](").skip(1).map(|rest| &rest[..until(&[')', ' '])(rest)]).collect();
    if line.starts_with('[')
        && let Some((name, target)) = line.split_once("]: ")
        && !name.contains(']')
    {
        targets.push(target.trim());
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_missing_files_are_found() {
        let text = "[a](here.md) and [b](gone.md#part \"title\")\n\n[c]: gone.txt\n";
        let findings = check("a.md", text, &|target| target == "here.md");
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 3]);
        assert!(findings[0].what.contains("gone.md,"), "{}", findings[0]);
    }

    #[test]
    fn the_web_parts_of_the_page_and_code_are_left_alone() {
        let text = "[a](https://example.com) [b](#part) [c](mailto:a@example.com)\n```\n[d](gone.md)\n```\n";
        assert!(check("a.md", text, &|_| false).is_empty());
    }
}
