//! Links in Markdown point at a file that exists and at a heading that it has. Links to the web are not followed: a
//! weekly job of CI does.

use super::Finding;

/// Finds links to files for which `exists` is false, and to headings that the page from `read` does not have.
pub(super) fn check(
    file: &str,
    text: &str,
    exists: &dyn Fn(&str) -> bool,
    read: &dyn Fn(&str) -> Option<String>,
) -> Vec<Finding> {
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
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let page = match path {
                "" => Some(text.to_owned()),
                path if path.ends_with(".md") => read(path),
                _ => None,
            };
            let lacks_heading = |page: String| !heading.is_empty() && !anchors(&page).any(|anchor| anchor == heading);
            let what = if !path.is_empty() && !exists(path) {
                format!("link to {path}, which does not exist: correct the path")
            } else if page.is_some_and(lacks_heading) {
                format!("link to #{heading}, but the page has no such heading: correct it")
            } else {
                continue;
            };
            findings.push(Finding::new(file, number, what));
        }
    }
    findings
}

/// The anchors of a page's headings: lower case, with hyphens for spaces, without punctuation.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(move |line| anchor(line.trim_start_matches('#')))
}

/// The targets of a line's links: `[text](target)` and `[name]: target`.
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
        let findings = check("a.md", text, &|target| target == "here.md", &|_| None);
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 3]);
        assert!(findings[0].what.contains("gone.md,"), "{}", findings[0]);
    }

    #[test]
    fn links_to_missing_headings_are_found() {
        let text = "# A Heading: `one`!\n[a](#a-heading-one)\n[b](#gone) [c](there.md#two)\n[d](there.md#three)\n";
        let read = |target: &str| (target == "there.md").then(|| "## Two\n".to_owned());
        let findings = check("a.md", text, &|_| true, &read);
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [3, 4]);
        assert!(findings[1].what.contains("#three"), "{}", findings[1]);
    }

    #[test]
    fn links_to_the_web_and_in_code_are_skipped() {
        let text = "[a](https://example.com#x) [c](mailto:a@example.com)\n```\n[d](gone.md)\n```\n";
        assert!(check("a.md", text, &|_| false, &|_| None).is_empty());
    }
}
