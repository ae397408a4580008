//! The Python package: its checks, its tests, and its wheel in an empty environment (`cargo xtask python`).
//!
//! Owns the environment under `target/xtask/python`, with the packages of `python/requirements-dev.txt`. In come the
//! sources; out goes the native module beside them, built in the profile that cargo's tests use, and a wheel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rabbitmq::install;
use crate::shell::{self, Result};
use crate::steps::Outcome;

/// The packages that the checks need, with their versions.
const CHECKS: &str = "python/requirements-dev.txt";
/// The clients that the package is measured beside.
const PEERS: &str = "bench/python/requirements.txt";

/// The native module as cargo and as Python name it.
const BUILT: (&str, &str) = if cfg!(windows) {
    ("_hopmq.dll", "_hopmq.pyd")
} else if cfg!(target_os = "macos") {
    ("lib_hopmq.dylib", "_hopmq.abi3.so")
} else {
    ("lib_hopmq.so", "_hopmq.abi3.so")
};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose names match one of these texts, and no checks
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    require()?;
    match test(&arguments.filters)? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(reason) => Err(reason.into()),
    }
}

/// Checks that a Python with `venv` can be used. Installs Debian's package where it can't.
pub(crate) fn require() -> Result {
    const BY_HAND: &str = "install Python 3.11 or later with venv (Debian: apt install python3-venv)";
    install::provide("Python 3.11 with venv", "python3-venv", BY_HAND, || {
        let check = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))";
        Command::new("python3").args(["-c", check]).output().is_ok_and(|output| output.status.success())
    })
}

/// Builds, checks and tests the package; with filters, it only runs the tests whose names contain one.
pub(crate) fn test(filters: &[String]) -> Result<Outcome> {
    let python = environment_of("tools", Some(CHECKS))?;
    let python = python.as_path();
    build()?;
    if !filters.is_empty() {
        return named(python, filters);
    }
    shell::run(tool(python, "ruff").args(["check", "."]))?;
    shell::run(tool(python, "ruff").args(["format", "--check", "."]))?;
    shell::run(tool(python, "mypy").args(["--strict", "hopmq", "tests/typing"]))?;
    shell::run(tool(python, "basedpyright").arg("--pythonpath").arg(python))?;
    shell::run(tool(python, "mypy.stubtest").arg("hopmq._hopmq"))?;
    shell::run(&mut tool(python, "pytest"))?;
    wheel(python)?;
    Ok(Outcome::Passed)
}

/// Runs the tests whose names contain one of these texts.
fn named(python: &Path, filters: &[String]) -> Result<Outcome> {
    /// The exit code of pytest when no test was selected.
    const NONE: i32 = 5;
    let is_name = |text: &&String| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let names: Vec<&str> = filters.iter().filter(is_name).map(String::as_str).collect();
    let none = || Ok(Outcome::Skipped("no test of the Python package has such a name".into()));
    if names.is_empty() {
        return none();
    }
    let status = tool(python, "pytest").args(["-k", &names.join(" or ")]).status()?;
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(NONE) => none(),
        _ => Err(format!("pytest failed: {status}").into()),
    }
}

/// Builds the native module, and puts it beside the package's sources.
fn build() -> Result {
    shell::run(shell::cargo().args(["build", "--package", "hopmq-python"]))?;
    let place = shell::root().join("python/hopmq").join(BUILT.1);
    // A process may have the old one mapped: it is replaced, not written to.
    let new = place.with_extension("new");
    fs::copy(shell::root().join("target/debug").join(BUILT.0), &new)?;
    fs::rename(new, place)?;
    Ok(())
}

/// A module of Python that is a program, run in the package's folder.
fn tool(python: &Path, module: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", module]).current_dir(shell::root().join("python")).env("PYTHONPATH", ".");
    command
}

/// Makes an environment under `target/xtask/python`, with the packages of a list or none. Returns its interpreter.
fn environment_of(name: &str, packages: Option<&str>) -> Result<PathBuf> {
    let folder = shell::root().join("target/xtask/python").join(name);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let installed = folder.join("installed.txt");
    let wanted = packages.map(|list| shell::read(&shell::root().join(list))).transpose()?;
    if wanted.is_some() && fs::read_to_string(&installed).ok() == wanted {
        return Ok(python);
    }
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    if let (Some(list), Some(wanted)) = (packages, wanted) {
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", list];
        shell::run(Command::new(&python).args(install).current_dir(shell::root()))?;
        shell::write(&installed, &wanted)?;
    }
    Ok(python)
}

/// Builds the package as it is released, and an environment with its peers. Returns the interpreter.
pub(crate) fn for_benchmarks() -> Result<PathBuf> {
    require()?;
    let python = environment_of("peers", Some(PEERS))?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "hopmq-python"]))?;
    let package = package_for_benchmarks().join("hopmq");
    shell::remove_folder(&package)?;
    fs::create_dir_all(&package)?;
    for source in fs::read_dir(shell::root().join("python/hopmq"))? {
        let path = source?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            fs::copy(&path, package.join(path.file_name().unwrap_or_default()))?;
        }
    }
    fs::copy(shell::root().join("target/release").join(BUILT.0), package.join(BUILT.1))?;
    Ok(python)
}

/// The folder in which [`for_benchmarks`] puts the package.
pub(crate) fn package_for_benchmarks() -> PathBuf {
    shell::root().join("target/xtask/python/release")
}

/// Builds a wheel, installs it into an empty environment, and runs the first program of the README there.
fn wheel(python: &Path) -> Result {
    let folder = shell::root().join("target/xtask/python/wheels");
    shell::remove_folder(&folder)?;
    let mut build = tool(python, "maturin");
    // In the profile of the tests, whose crates are compiled already.
    build.args(["build", "--profile", "dev", "--interpreter"]).arg(python).arg("--out").arg(&folder);
    shell::run(build.env("PATH", path_with(python)?))?;
    let wheel = fs::read_dir(&folder)?.next().ok_or("maturin has made no wheel")??.path();
    let empty = environment_of("empty", None)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"];
    shell::run(Command::new(&empty).args(install).arg(&wheel))?;
    // `-I`: the package must come from the wheel, not from this folder.
    let program = shell::root().join("python/tests/first_program.py");
    shell::run(Command::new(&empty).arg("-I").arg(program).current_dir(&folder))
}

/// Returns the path on which maturin finds the tools of its environment.
fn path_with(python: &Path) -> Result<std::ffi::OsString> {
    let tools = python.parent().ok_or("the interpreter has no folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?)
}
