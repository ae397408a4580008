//! `cargo xtask deps`: the number of crates that `hopmq` and `hopmq-app` bring into a program, held below a limit.

use std::collections::BTreeSet;

use crate::shell::{self, Result};

/// The default build has fewer crates than this, HopMQ's included.
const DEFAULT_LIMIT: usize = 45;
/// The build without TLS has fewer crates than this.
const PLAIN_LIMIT: usize = 32;
/// The rows of the README's table of features, and the features behind each number in its last column.
const DOCUMENTED: [(&str, &[&str]); 6] = [
    ("none", &[""]),
    ("`net`", &["net"]),
    ("`tls`", &["net,tls"]),
    ("`tokio`", &["tokio", "tokio,tls"]),
    ("`unix`", &["unix"]),
    ("`websocket`", &["net,websocket", "net,tls,websocket"]),
];
/// The same for the README of `hopmq-app`.
const APP_DOCUMENTED: [(&str, &[&str]); 14] = [
    ("none", &[""]),
    ("`json`", &["json"]),
    ("`macros`", &["json,macros"]),
    ("`net`", &["default"]),
    ("`msgpack`,", &["default,msgpack", "default,cbor"]),
    ("`gzip`,", &["default,gzip", "default,zstd"]),
    ("`garde`", &["default,garde"]),
    ("`blocking`", &["default,blocking"]),
    ("`sqlite`", &["default,sqlite"]),
    ("`signals`", &["default,signals"]),
    ("`http`", &["default,http"]),
    ("`tower`", &["default,tower"]),
    ("`asyncapi`", &["default,asyncapi"]),
    ("`test`", &["default,test"]),
];
/// The numbers are those of this target, wherever they are counted.
const LINUX: &str = "x86_64-unknown-linux-gnu";
/// Crates that a build without default features must not bring.
const UNWANTED: [&str; 3] = ["rustls", "ring", "url"];

pub(crate) fn run() -> Result {
    let default_features = default_features(&shell::read(&shell::root().join("core/Cargo.toml"))?);
    let plain_features: Vec<&str> = default_features.iter().map(String::as_str).filter(|name| !is_tls(name)).collect();

    let default = crates("hopmq", &[])?;
    let plain = crates("hopmq", &["--no-default-features", "--features", &plain_features.join(",")])?;
    let bare = crates("hopmq", &["--no-default-features"])?;
    println!("default features: {} crates (fewer than {DEFAULT_LIMIT})", default.len());
    println!("without TLS ({}): {} crates (fewer than {PLAIN_LIMIT})", plain_features.join(", "), plain.len());
    println!("no default features: {} crates", bare.len());

    let readme = shell::read(&shell::root().join("README.md"))?;
    let app_readme = shell::read(&shell::root().join("app/README.md"))?;
    let count =
        |package: &str, features: &str| Ok(crates(package, &["--no-default-features", "--features", features])?.len());
    let mut faults = wrong_numbers("README.md", &readme, &DOCUMENTED, |features| count("hopmq", features))?;
    faults
        .extend(wrong_numbers("app/README.md", &app_readme, &APP_DOCUMENTED, |features| count("hopmq-app", features))?);
    let sentence = format!("{} crates with TLS and {} without", default.len(), plain.len());
    if !readme.contains(&sentence) {
        faults.push(format!("README.md must say \"{sentence}\""));
    }
    if default.len() >= DEFAULT_LIMIT {
        faults.push(format!("{} crates with default features: {}", default.len(), list(&default)));
    }
    if plain.len() >= PLAIN_LIMIT {
        faults.push(format!("{} crates without TLS: {}", plain.len(), list(&plain)));
    }
    for crate_ in bare.iter().filter(|crate_| is_unwanted(crate_)) {
        faults.push(format!("{crate_} is built without default features: make it part of a feature"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// Finds the rows of a README's table of features whose numbers differ from `count`.
fn wrong_numbers(
    file: &str,
    readme: &str,
    rows: &[(&str, &[&str])],
    count: impl Fn(&str) -> Result<usize>,
) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (name, features) in rows {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap_or_default();
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let documented: Vec<usize> =
            last.split_whitespace().filter_map(|word| word.trim_matches(',').parse().ok()).collect();
        let counted = features.iter().map(|features| count(features)).collect::<Result<Vec<usize>>>()?;
        if documented != counted {
            faults.push(format!(
                "{file}, feature {name}: it says {documented:?} crates, the build has {counted:?}: correct it"
            ));
        }
    }
    Ok(faults)
}

/// The crates of a package's build for Linux, each once, as `name vVERSION`.
fn crates(package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = shell::cargo();
    command.args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--target", LINUX]);
    command.args(features);
    Ok(distinct(&shell::output(&mut command)?))
}

/// The crates of cargo's tree, each once.
pub(crate) fn distinct(tree: &str) -> BTreeSet<String> {
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
    UNWANTED.iter().any(|unwanted| name == *unwanted || name.starts_with(&format!("{unwanted}-")))
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
    fn a_crate_that_appears_twice_counts_once() {
        let tree = "hopmq v0.1.0 (/there/core)\nbytes v1.12.1\nring v0.17.14\nbytes v1.12.1 (*)\n\n";
        assert_eq!(distinct(tree).len(), 3);
    }

    #[test]
    fn unwanted_crates_are_found_by_name() {
        assert!(is_unwanted("rustls-pki-types v1.15.1") && is_unwanted("url v2.5.8"));
        assert!(!is_unwanted("urlencoding v1.0.0") && !is_unwanted("ringbuf v0.4.0"));
    }

    #[test]
    fn wrong_numbers_in_the_readme_are_found() {
        let rows = |net: usize| {
            format!(
                "| none | no 3 | 1 |\n| `net` (default) | x | {net} |\n| `tls` (default) | x | 7 with `net` |\n\
                 | `tokio` | x | 5, or 9 with `tls` |\n| `unix` | x | 4 |\n\
                 | `websocket` | x | 13 with `net`, 17 with `tls` |\n"
            )
        };
        // Counts the letters of the features' names.
        let count = |features: &str| Ok(features.len().max(1));
        assert_eq!(wrong_numbers("README.md", &rows(3), &DOCUMENTED, count).unwrap(), [""; 0]);
        let faults = wrong_numbers("README.md", &rows(2), &DOCUMENTED, count).unwrap();
        assert!(faults.len() == 1 && faults[0].contains("`net`: it says [2] crates, the build has [3]"), "{faults:?}");
    }

    #[test]
    fn default_features_are_read_from_a_manifest() {
        let manifest = "[package]\n\n[features]\nnet = []\ndefault = [\n  \"net\",\n  \"rustls-tls\",\n]\n[lints]\n";
        assert_eq!(default_features(manifest), ["net", "rustls-tls"]);
        assert!(default_features("[package]\nname = \"x\"\n").is_empty());
    }
}
