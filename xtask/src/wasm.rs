//! `cargo xtask wasm`: the npm package, in `wasm/npm`, ready for `npm pack`.
//!
//! The crate is compiled with what only the package needs, wasm-bindgen splits it into WebAssembly and glue, and
//! `wasm/npm/build.mjs` makes the package of that, and holds its size below a limit.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, Result};

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the package; with `--quick`, without the minutes that it takes to make it small.
pub(crate) fn run(arguments: &[String]) -> Result {
    let quick = match arguments {
        [] => false,
        [only] if only == "--quick" => true,
        _ => return Err("usage: cargo xtask wasm [--quick]".into()),
    };
    packages("wasm/npm")?;
    shell::run(shell::cargo().args(["build", "--package", "hopmq-wasm", "--features", "npm"]).args([
        "--profile",
        "wasm",
        "--target",
        TARGET,
    ]))?;
    let target = target();
    // A workspace of its own, whose crates nobody else needs.
    shell::run(
        shell::cargo()
            .args([
                "run",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
                "wasm/bindgen/Cargo.toml",
                "--target-dir",
            ])
            .arg(target.join("bindgen"))
            .arg("--")
            .arg(target.join(TARGET).join("wasm/hopmq_wasm.wasm"))
            .arg("wasm/npm/pkg"),
    )?;
    let mut build = shell::program("node");
    build.arg("wasm/npm/build.mjs");
    if quick {
        build.arg("--quick");
    }
    shell::run(&mut build)
}

/// Where Cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from)
}

/// Installs the npm packages of a folder, as its lock file has them, unless they are there.
pub(crate) fn packages(folder: &str) -> Result {
    let folder = shell::root().join(folder);
    let (lock, stamp) = (folder.join("package-lock.json"), folder.join("node_modules/.package-lock.json"));
    let age = |path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if age(stamp).is_some_and(|installed| age(lock).is_some_and(|locked| locked <= installed)) {
        return Ok(());
    }
    shell::run(Command::new("npm").current_dir(&folder).args(["ci", "--no-audit", "--no-fund"]))
}
