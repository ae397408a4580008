//! `cargo xtask deps`: how much a program takes on with `hopmq`, held below a limit.

use std::collections::BTreeSet;

use crate::shell::{self, Result};

/// Crates of the default build, ours included, are fewer than this.
const DEFAULT_LIMIT: usize = 90;
/// Without what TLS brings they are fewer than this.
const PLAIN_LIMIT: usize = 75;
/// The rows of the table of features in the README, and the features of each number in its last column.
const TOLD: [(&str, &[&str]); 6] = [
    ("none", &[""]),
    ("`net`", &["net"]),
    ("`tls`", &["net,tls"]),
    ("`tokio`", &["tokio", "tokio,tls"]),
    ("`unix`", &["unix"]),
    ("`websocket`", &["net,websocket", "net,tls,websocket"]),
];
/// What the numbers hold for, wherever they are counted.
const LINUX: &str = "x86_64-unknown-linux-gnu";
/// What a build without default features must not bring.
const NOT_BARE: [&str; 3] = ["rustls", "ring", "url"];

pub(crate) fn run(_: &[String]) -> Result {
    let default_features = default_features(&shell::read(&shell::root().join("core/Cargo.toml"))?);
    let plain_features: Vec<&str> = default_features.iter().map(String::as_str).filter(|name| !is_tls(name)).collect();

    let default = crates(&[])?;
    let plain = crates(&["--no-default-features", "--features", &plain_features.join(",")])?;
    let bare = crates(&["--no-default-features"])?;
    println!("default features: {} crates (fewer than {DEFAULT_LIMIT})", default.len());
    println!("without TLS ({}): {} crates (fewer than {PLAIN_LIMIT})", plain_features.join(", "), plain.len());
    println!("no default features: {} crates", bare.len());

    let readme = shell::read(&shell::root().join("README.md"))?;
    let mut faults = untrue(&readme, |features| Ok(crates(&["--no-default-features", "--features", features])?.len()))?;
    let sentence = format!("{} crates with TLS and {} without, ours among them", default.len(), plain.len());
    if !readme.contains(&sentence) {
        faults.push(format!("README.md does not say \"{sentence}\": correct it"));
    }
    if default.len() >= DEFAULT_LIMIT {
        faults.push(format!("{} crates with default features: {}", default.len(), list(&default)));
    }
    if plain.len() >= PLAIN_LIMIT {
        faults.push(format!("{} crates without TLS: {}", plain.len(), list(&plain)));
    }
    for crate_ in bare.iter().filter(|crate_| is_unwanted(crate_)) {
        faults.push(format!("{crate_} comes along without default features: make it part of a feature"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// Rows of the README's table of features whose numbers are not what `count` finds.
fn untrue(readme: &str, count: impl Fn(&str) -> Result<usize>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (name, features) in TOLD {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap_or_default();
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let told: Vec<usize> = last.split_whitespace().filter_map(|word| word.trim_matches(',').parse().ok()).collect();
        let found = features.iter().map(|features| count(features)).collect::<Result<Vec<usize>>>()?;
        if told != found {
            faults.push(format!("README.md, feature {name}: it says {told:?} crates, there are {found:?}: correct it"));
        }
    }
    Ok(faults)
}

/// Each crate of the build for Linux, once: `name vVERSION`.
fn crates(features: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = shell::cargo();
    command.args(["tree", "--package", "hopmq", "--edges", "normal", "--prefix", "none", "--target", LINUX]);
    command.args(features);
    Ok(distinct(&shell::output(&mut command)?))
}

fn distinct(tree: &str) -> BTreeSet<String> {
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    tree.lines().map(words).filter(|name| !name.is_empty()).collect()
}

fn list(crates: &BTreeSet<String>) -> String {
    crates.iter().cloned().collect::<Vec<_>>().join(", ")
}

fn is_tls(feature: &str) -> bool {
    feature.contains("tls")
}

fn is_unwanted(crate_: &str) -> bool {
    let name = crate_.split(' ').next().unwrap_or_default();
    NOT_BARE.iter().any(|unwanted| name == *unwanted || name.starts_with(&format!("{unwanted}-")))
}

/// The names in `default = […]` of a manifest's `[features]`.
fn default_features(manifest: &str) -> Vec<String> {
    let features = manifest.split_once("\n[features]").map_or("", |(_, rest)| rest);
    let features = features.split("\n[").next().unwrap_or_default();
    let default = features.split("\ndefault = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let names = default.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_count_once() {
        let tree = "hopmq v0.1.0 (/there/core)\nbytes v1.12.1\nring v0.17.14\nbytes v1.12.1 (*)\n\n";
        assert_eq!(distinct(tree).len(), 3);
    }

    #[test]
    fn unwanted_crates_are_told_by_their_names() {
        assert!(is_unwanted("rustls-pki-types v1.15.1") && is_unwanted("url v2.5.8"));
        assert!(!is_unwanted("urlencoding v1.0.0") && !is_unwanted("ringbuf v0.4.0"));
    }

    #[test]
    fn numbers_that_are_not_true_are_found() {
        let rows = |net: usize| {
            format!(
                "| none | no 3 | 1 |\n| `net` (default) | x | {net} |\n| `tls` (default) | x | 7 with `net` |\n\
                 | `tokio` | x | 5, or 9 with `tls` |\n| `unix` | x | 4 |\n\
                 | `websocket` | x | 13 with `net`, 17 with `tls` |\n"
            )
        };
        // As many as the names of the features have letters.
        let count = |features: &str| Ok(features.len().max(1));
        assert_eq!(untrue(&rows(3), count).unwrap(), [""; 0]);
        let faults = untrue(&rows(2), count).unwrap();
        assert!(faults.len() == 1 && faults[0].contains("`net`: it says [2] crates, there are [3]"), "{faults:?}");
    }

    #[test]
    fn default_features_are_read() {
        let manifest = "[package]\n\n[features]\nnet = []\ndefault = [\n  \"net\",\n  \"rustls-tls\",\n]\n[lints]\n";
        assert_eq!(default_features(manifest), ["net", "rustls-tls"]);
        assert!(default_features("[package]\nname = \"x\"\n").is_empty());
    }
}
