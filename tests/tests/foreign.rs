//! Sessions of clients of other languages, each against the broker under test: see `foreign/README.md`.
//!
//! Their packages are installed into `target/foreign`. Where their language is not on the machine, the test says so; so
//! it does where a package can't be had, unless this is CI, which can have all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hopmq_tests::broker;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign");

/// Why a session can't be run here.
type Missing = String;

fn target() -> PathBuf {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tests.parent().unwrap_or(tests).join("foreign")
}

/// Runs a command, and returns what it printed.
fn output(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{line} does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{line} failed: {}\n{text}", output.status)) }
}

/// Runs `install` unless it was done before for the same list of packages, and remembers that.
fn install(list: &str, folder: &Path, install: &mut Command) -> Result<(), Missing> {
    let (wanted, stamp) = (fs::read(Path::new(SCRIPTS).join(list)), folder.join("installed"));
    let wanted = wanted.map_err(|error| format!("{list}: {error}"))?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // What an older list left behind.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::copy(Path::new(SCRIPTS).join(list), folder.join(list)).map_err(|error| format!("{list}: {error}"))?;
    output(install).map_err(|error| format!("the packages of {list} can't be had: {error}"))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// The folder of Python's packages.
fn python() -> Result<&'static Path, &'static Missing> {
    static PYTHON: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    let installed = PYTHON.get_or_init(|| {
        output(Command::new("python3").args(["-m", "pip", "--version"]))
            .map_err(|error| format!("no Python: {error}"))?;
        let folder = target().join("python");
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--no-input", "--target"]).arg(&folder);
        install("requirements.txt", &folder, command.arg("-r").arg(Path::new(SCRIPTS).join("requirements.txt")))?;
        Ok(folder)
    });
    installed.as_deref()
}

/// The folder of Node's packages.
fn node() -> Result<&'static Path, &'static Missing> {
    static NODE: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    let installed = NODE.get_or_init(|| {
        output(Command::new("npm").arg("--version")).map_err(|error| format!("no npm: {error}"))?;
        let folder = target().join("node");
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]);
        install("package.json", &folder, command.current_dir(&folder))?;
        Ok(folder)
    });
    installed.as_deref()
}

/// Says what is not tested, and why. CI has all that is needed.
fn skip(script: &str, why: &Missing) {
    assert!(std::env::var_os("CI").is_none(), "{script} can't be run, and CI has to run it: {why}");
    eprintln!("SKIPPED: {script} was not run: {why}");
}

fn run(command: &mut Command) {
    match output(command.arg(&broker().amqp)) {
        Ok(steps) => assert!(steps.trim_end().ends_with(": close"), "the session broke off:\n{steps}"),
        Err(error) => panic!("{error}"),
    }
}

fn python_session(script: &str) {
    match python() {
        Ok(packages) => {
            let mut command = Command::new("python3");
            run(command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").arg(script_path(script)));
        }
        Err(why) => skip(script, why),
    }
}

fn node_session(script: &str) {
    match node() {
        Ok(packages) => {
            // Node looks for packages beside the script.
            let copy = packages.join(script);
            fs::copy(script_path(script), &copy).expect("the script can be copied");
            run(Command::new("node").arg(copy));
        }
        Err(why) => skip(script, why),
    }
}

fn script_path(script: &str) -> PathBuf {
    Path::new(SCRIPTS).join(script)
}

#[test]
fn pika() {
    python_session("pika_session.py");
}

#[test]
fn aio_pika() {
    python_session("aio_pika_session.py");
}

#[test]
fn py_amqp() {
    python_session("amqp_session.py");
}

#[test]
fn kombu() {
    python_session("kombu_session.py");
}

#[test]
fn amqplib() {
    node_session("amqplib_session.mjs");
}

#[test]
fn amqp_client() {
    node_session("amqp_client_session.mjs");
}
