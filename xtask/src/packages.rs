//! `cargo xtask packages`: checks that the crates and the npm package can be published.

use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps, skip_outside_ci};

/// The files of the npm package. `npm pack` leaves out one that does not exist, without an error.
const NPM_FILES: [&str; 5] = ["dist/index.d.ts", "dist/hopmq.wasm", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub(crate) fn run() -> Result {
    let mut steps = Steps::new();
    steps.run("cargo package", crates);
    steps.step("npm pack", npm);
    steps.finish("packages")
}

/// Packs every publishable crate as crates.io would get it. Crates that depend on each other need not be published yet.
/// The packed crates are not compiled: the workspace was.
fn crates() -> Result {
    shell::run(shell::cargo().args(["package", "--workspace", "--no-verify", "--allow-dirty", "--quiet"]))
}

/// Lists the npm package. `cargo xtask wasm` or the tests must have built it.
fn npm() -> Result<Outcome> {
    let folder = shell::root().join("wasm/npm");
    if !folder.join("dist").is_dir() {
        return skip_outside_ci("wasm/npm is not built: run `cargo xtask wasm`".into());
    }
    let manifest = shell::read(&folder.join("package.json"))?;
    let listing = shell::output(shell::program("npm").current_dir(&folder).args(["pack", "--dry-run", "--json"]))?;
    let absent = absent(&manifest, &listing);
    if absent.is_empty() {
        println!("wasm/npm has every file that package.json names");
        Ok(Outcome::Passed)
    } else {
        Err(format!("`npm pack` leaves out {}: run `cargo xtask wasm`", absent.join(", ")).into())
    }
}

/// The files that the manifest points at, and [`NPM_FILES`], that `npm pack --json` does not list.
fn absent(manifest: &str, listing: &str) -> Vec<String> {
    let named = manifest.split('"').filter_map(|text| text.strip_prefix("./"));
    // The other relative paths are keys of `exports`, which name no files.
    let named = named.filter(|file| file.starts_with("dist/"));
    let mut files: Vec<&str> =
        named.chain(NPM_FILES).filter(|file| !listing.contains(&format!("\"{file}\""))).collect();
    files.sort_unstable();
    files.dedup();
    files.into_iter().map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::absent;

    #[test]
    fn files_that_npm_would_leave_out_are_found() {
        let manifest = r#"{"main": "./dist/node.js", "exports": {"./hopmq.wasm": "./dist/slim.js"}, "name": "hopmq"}"#;
        let listing = r#"{"files": [{"path": "dist/node.js"}, {"path": "dist/index.d.ts"},
            {"path": "dist/hopmq.wasm"}, {"path": "README.md"}, {"path": "LICENSE-MIT"}]}"#;
        assert_eq!(absent(manifest, listing), ["LICENSE-APACHE", "dist/slim.js"]);
    }
}
