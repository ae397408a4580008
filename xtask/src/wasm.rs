//! `cargo xtask wasm`: the npm package, in `wasm/npm`, ready for `npm pack`.
//!
//! The crate is compiled with what only the package needs, wasm-bindgen splits it into WebAssembly and glue, and
//! `wasm/npm/build.mjs` makes the package of that, and holds its size below a limit.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, Result};

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the package; with `--quick`, without the minutes that it takes to make it small; with `--examples`, the
/// example pages too.
pub(crate) fn run(arguments: &[String]) -> Result {
    let (mut quick, mut examples) = (false, false);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => quick = true,
            "--examples" => examples = true,
            _ => return Err("usage: cargo xtask wasm [--quick] [--examples]".into()),
        }
    }
    packages("wasm/npm")?;
    shell::run(cargo_build()?.args(["--package", "hopmq-wasm", "--features", "npm"]))?;
    bindgen("hopmq_wasm", "wasm/npm/pkg")?;
    let mut build = shell::program("node");
    build.arg("wasm/npm/build.mjs");
    if quick {
        build.arg("--quick");
    }
    shell::run(&mut build)?;
    if examples {
        shell::run(cargo_build()?.args(["--package", "hopmq-wasm-example"]))?;
        bindgen("hopmq_wasm_example", "wasm/examples/rust/pkg")?;
        shell::run(shell::program("node").arg("wasm/examples/build.mjs"))?;
    }
    Ok(())
}

/// Builds for the browser. What a panic says of its place must not tell where the package was built.
fn cargo_build() -> Result<Command> {
    let sysroot = shell::output(Command::new("rustc").current_dir(shell::root()).args(["--print", "sysroot"]))?;
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        format!("--remap-path-prefix={home}/registry/src=crates"),
        format!("--remap-path-prefix={}/lib/rustlib/src/rust=rust", sysroot.trim()),
    ];
    let mut command = shell::cargo();
    command.args(["build", "--profile", "wasm", "--target", TARGET]);
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags.join(" "));
    Ok(command)
}

/// Splits what the compiler made of a library. The tool is a workspace of its own, whose crates nobody else needs.
fn bindgen(library: &str, folder: &str) -> Result {
    let target = target();
    let mut command = shell::cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        "wasm/bindgen/Cargo.toml",
        "--target-dir",
    ]);
    command.arg(target.join("bindgen")).arg("--").arg(target.join(TARGET).join("wasm").join(format!("{library}.wasm")));
    shell::run(command.arg(folder))
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
