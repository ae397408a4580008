//! Parts of the Rust toolchain that a command needs beyond the compiler. Rustup installs those that are missing.

use std::path::Path;
use std::process::Command;

use crate::rabbitmq::install;
use crate::shell::{self, Result};

/// The target of the npm package.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Makes sure that [`WASM`] can be compiled for. Every command that builds for WebAssembly calls this first.
///
/// Neither rustup nor cargo installs the target of `rust-toolchain.toml` where `RUSTUP_AUTO_INSTALL=0`.
pub(crate) fn require_wasm() -> Result {
    require_target(WASM, Path::new("rustc"), Path::new("rustup"))
}

fn require_target(target: &str, rustc: &Path, rustup: &Path) -> Result {
    let mut libraries = Command::new(rustc);
    libraries.current_dir(shell::root()).args(["--print", "target-libdir", "--target", target]);
    if Path::new(shell::output(&mut libraries)?.trim()).is_dir() {
        return Ok(());
    }
    let advice = "install rustup from https://rustup.rs, or your distribution's Rust standard library for that target";
    add(rustup, &["target", "add", target])
        .map_err(|error| missing(&format!("the target {target}"), &error, advice).into())
}

/// Makes sure that jemalloc can be built, the allocator of `hopmq-broker`: its build script calls make.
pub(crate) fn require_make() -> Result {
    const BY_HAND: &str = "install make (Debian: apt install make)";
    install::provide("make", "make", BY_HAND, || {
        Command::new("make").arg("--version").output().is_ok_and(|output| output.status.success())
    })
}

/// Makes sure that rustfmt and clippy run.
pub(crate) fn require_components() -> Result {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if shell::output(shell::cargo().args([command, "--version"])).is_err() {
            let advice = "install rustup from https://rustup.rs, or your distribution's package";
            add(Path::new("rustup"), &["component", "add", component])
                .map_err(|error| missing(component, &error, advice))?;
        }
    }
    Ok(())
}

fn add(rustup: &Path, arguments: &[&str]) -> Result {
    shell::run(Command::new(rustup).current_dir(shell::root()).args(arguments))
}

fn missing(what: &str, error: &dyn std::fmt::Display, advice: &str) -> String {
    format!("{what} is not installed, and rustup could not add it ({error}): {advice}")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A folder with a `rustc` that names its folder `installed` as the target's, and a `rustup` that creates it.
    fn fake_toolchain(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-toolchain-{}-{name}", std::process::id()));
        let at = folder.display();
        for (program, script) in [
            ("rustc", format!("test \"$*\" = '--print target-libdir --target {WASM}' && echo {at}/installed")),
            ("rustup", format!("test \"$*\" = 'target add {WASM}' && mkdir {at}/installed")),
        ] {
            let path = folder.join(program);
            shell::write(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn require(folder: &Path, rustup: &str) -> Result {
        require_target(WASM, &folder.join("rustc"), &folder.join(rustup))
    }

    #[test]
    fn a_missing_target_is_added_by_rustup() {
        let folder = fake_toolchain("added");
        require(&folder, "rustup").unwrap();
        assert!(folder.join("installed").is_dir());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_installed_target_needs_no_rustup() {
        let folder = fake_toolchain("installed");
        fs::create_dir(folder.join("installed")).unwrap();
        require(&folder, "no-rustup").unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_rustup_the_error_says_what_to_install() {
        let folder = fake_toolchain("absent");
        let error = require(&folder, "no-rustup").unwrap_err().to_string();
        assert!(error.starts_with(&format!("the target {WASM} is not installed")), "{error}");
        assert!(error.contains("https://rustup.rs"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
