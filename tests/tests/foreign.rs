//! Sessions of clients in other languages with the broker under test: see `foreign/README.md`.
//!
//! The packages for Python and Node are installed into `target/foreign`. A session is skipped with a message if its
//! language is missing or a package can't be installed; in CI that is a failure. The clients for Java, Ruby and Go are
//! Debian packages: their sessions run only where these are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hopmq_tests::broker;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign");

/// The reason why a session can't run here.
type Missing = String;

fn target() -> PathBuf {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tests.parent().unwrap_or(tests).join("foreign")
}

/// Runs a command, and returns its output.
fn output(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {line}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{line} failed: {}\n{text}", output.status)) }
}

/// Runs `install`, unless it succeeded before for the same list of packages.
fn install(list: &str, folder: &Path, install: &mut Command) -> Result<(), Missing> {
    let stamp = folder.join("installed");
    let wanted = fs::read(Path::new(SCRIPTS).join(list)).map_err(|error| format!("{list}: {error}"))?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Packages of an older list.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::copy(Path::new(SCRIPTS).join(list), folder.join(list)).map_err(|error| format!("{list}: {error}"))?;
    output(install).map_err(|error| format!("cannot install the packages of {list}: {error}"))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Installs the packages for Python, and returns their folder.
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

/// Installs the packages for Node, and returns their folder.
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

/// Prints that a session is skipped, and why. Fails in CI, which has all packages.
fn skip(script: &str, why: &Missing) {
    assert!(std::env::var_os("CI").is_none(), "CI must run {script}, but can't: {why}");
    eprintln!("SKIPPED: {script}: {why}");
}

fn run(command: &mut Command) {
    match output(command.arg(&broker().amqp)) {
        Ok(steps) => assert!(steps.contains(": close\n"), "the session ended early:\n{steps}"),
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
            // Node looks for packages beside the script. Another process may run the same copy: it changes at once.
            let copy = packages.join(script);
            let draft = packages.join(format!("{}-{script}", std::process::id()));
            fs::copy(script_path(script), &draft).expect("the script can be copied");
            fs::rename(&draft, &copy).expect("the copy can be renamed");
            run(Command::new("node").arg(copy));
        }
        Err(why) => skip(script, why),
    }
}

/// Runs a session if `probe` succeeds: its language and client are installed.
fn debian_session(script: &str, packages: &str, probe: &mut Command, command: &mut Command) {
    match output(probe) {
        Ok(_) => run(command.arg(script_path(script))),
        Err(error) => eprintln!("SKIPPED: {script}: install Debian's packages {packages} ({error})"),
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

#[test]
fn java() {
    const JARS: &str = "/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar";
    let mut probe = Command::new("ls");
    probe.arg("/usr/bin/java").args(JARS.split(':'));
    debian_session(
        "JavaSession.java",
        "openjdk-17-jdk-headless librabbitmq-client-java",
        &mut probe,
        Command::new("java").args(["-cp", JARS]),
    );
}

#[test]
fn bunny() {
    let mut probe = Command::new("ruby");
    probe.args(["-e", "require 'bunny'"]);
    debian_session("bunny_session.rb", "ruby-bunny", &mut probe, &mut Command::new("ruby"));
}

#[test]
fn amqp091_go() {
    const PATH: &str = "/usr/share/gocode";
    let mut probe = Command::new("go");
    probe.env("GO111MODULE", "off").env("GOPATH", PATH).args(["list", "github.com/rabbitmq/amqp091-go"]);
    let mut command = Command::new("go");
    command.env("GO111MODULE", "off").env("GOPATH", PATH).env("GOCACHE", target().join("go")).arg("run");
    debian_session("amqp091_session.go", "golang-go golang-github-rabbitmq-amqp091-go-dev", &mut probe, &mut command);
}
