//! Sessions of clients in other languages with the broker under test: see `foreign/README.md`.
//!
//! The packages for Python and Node are installed into `target/foreign`. A session is skipped with a line that says why
//! if its language is missing or a package can't be installed; in CI that is a failure. The clients for Java, Ruby and
//! Go are Debian packages: their sessions run only where these are installed.
//!
//! Sessions mostly wait, for heartbeats and timers. So all of them run at once, and each test waits for its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fs4::FileExt;
use hopmq_tests::broker;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign");

/// The bound of a session. The longest, of Celery, takes about 20 seconds on a machine with nothing else to do.
const DEADLINE: Duration = Duration::from_secs(180);

/// The test of each session, its script, and how that runs.
const SESSIONS: [(&str, &str, Language); 13] = [
    // The longest begins first.
    ("celery", "celery_session.py", Language::Python),
    ("aio_pika", "aio_pika_session.py", Language::Python),
    ("amqp091_go", "amqp091_session.go", Language::Go),
    ("amqp_client", "amqp_client_session.mjs", Language::Node),
    ("amqplib", "amqplib_session.mjs", Language::Node),
    ("amqpstorm", "amqpstorm_session.py", Language::Python),
    ("bunny", "bunny_session.rb", Language::Ruby),
    ("java", "JavaSession.java", Language::Java),
    ("kombu", "kombu_session.py", Language::Python),
    ("librabbitmq", "librabbitmq_session.c", Language::C),
    ("pika", "pika_session.py", Language::Python),
    ("py_amqp", "amqp_session.py", Language::Python),
    ("rabbitmq_client", "rabbitmq_client_session.mjs", Language::Node),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    C,
    Go,
    Java,
    Node,
    Python,
    Ruby,
}

/// The reason why a session can't run here.
type Missing = String;

impl Language {
    /// Returns the command that runs a script, once everything that it needs is installed.
    fn command(self, script: &str) -> Result<Command, Missing> {
        let path = Path::new(SCRIPTS).join(script);
        match self {
            Self::C => compiled(&path).map(Command::new),
            Self::Go => {
                let go = |verb| {
                    let mut command = Command::new("go");
                    command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").arg(verb);
                    command
                };
                debian(
                    "golang-go golang-github-rabbitmq-amqp091-go-dev",
                    go("list").arg("github.com/rabbitmq/amqp091-go"),
                )?;
                let mut command = go("run");
                command.env("GOCACHE", target().join("go")).arg(path);
                Ok(command)
            }
            Self::Java => {
                const JARS: &str = "/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar";
                let mut probe = Command::new("ls");
                probe.arg("/usr/bin/java").args(JARS.split(':'));
                debian("openjdk-17-jdk-headless librabbitmq-client-java", &mut probe)?;
                let mut command = Command::new("java");
                command.args(["-cp", JARS]).arg(path);
                Ok(command)
            }
            Self::Node => {
                let packages = node()?;
                // Node looks for packages beside the script. Another process may run the same copy: it changes at once.
                let copy = packages.join(script);
                let draft = packages.join(format!("{}-{script}", std::process::id()));
                let copied = fs::copy(path, &draft).and_then(|_| fs::rename(&draft, &copy));
                copied.map_err(|error| format!("{}: {error}", copy.display()))?;
                let mut command = Command::new("node");
                command.arg(copy);
                Ok(command)
            }
            Self::Python => {
                let packages = python()?;
                let mut command = Command::new("python3");
                command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").arg(path);
                Ok(command)
            }
            Self::Ruby => {
                debian("ruby-bunny", Command::new("ruby").args(["-e", "require 'bunny'"]))?;
                let mut command = Command::new("ruby");
                command.arg(path);
                Ok(command)
            }
        }
    }

    /// Whether `cargo xtask test` provides the language, so that it can't be missing in CI.
    fn is_provided(self) -> bool {
        matches!(self, Self::C | Self::Node | Self::Python)
    }
}

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

/// Checks with `probe` whether Debian's packages are installed.
fn debian(packages: &str, probe: &mut Command) -> Result<(), Missing> {
    output(probe).map(drop).map_err(|error| format!("install Debian's packages {packages} ({error})"))
}

/// Runs `install`, unless it succeeded before for the same list of packages and the same version of the language.
fn install(list: &str, version: &str, folder: &Path, install: &mut Command) -> Result<(), Missing> {
    let failed = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(target()).map_err(failed)?;
    // Other processes may run their sessions at the same time.
    let lock = File::create(target().join(format!("{list}.lock"))).map_err(failed)?;
    FileExt::lock(&lock).map_err(failed)?;
    let stamp = folder.join("installed");
    let packages = fs::read_to_string(Path::new(SCRIPTS).join(list)).map_err(|error| format!("{list}: {error}"))?;
    let wanted = format!("{version}{packages}");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Packages of an older list.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(folder.join(list), packages).map_err(failed)?;
    output(install).map_err(|error| format!("cannot install the packages of {list}: {error}"))?;
    fs::write(&stamp, wanted).map_err(failed)
}

/// Installs the packages for Python, and returns their folder.
fn python() -> Result<&'static Path, Missing> {
    static PYTHON: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    let installed = PYTHON.get_or_init(|| {
        output(Command::new("python3").args(["-m", "pip", "--version"]))
            .map_err(|error| format!("no Python with pip: {error}"))?;
        let version = output(Command::new("python3").arg("--version"))?;
        let folder = target().join("python");
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--target"]);
        command.arg(&folder).arg("-r").arg(Path::new(SCRIPTS).join("requirements.txt"));
        install("requirements.txt", &version, &folder, &mut command)?;
        Ok(folder)
    });
    installed.as_deref().map_err(Clone::clone)
}

/// Installs the packages for Node, and returns their folder.
fn node() -> Result<&'static Path, Missing> {
    static NODE: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    let installed = NODE.get_or_init(|| {
        output(Command::new("npm").arg("--version")).map_err(|error| format!("no npm: {error}"))?;
        let folder = target().join("node");
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]);
        install("package.json", "", &folder, command.current_dir(target().join("node")))?;
        Ok(folder)
    });
    installed.as_deref().map_err(Clone::clone)
}

/// Compiles a session in C, and returns the program.
fn compiled(source: &Path) -> Result<PathBuf, Missing> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    output(Command::new(&compiler).arg("--version")).map_err(|error| format!("no C compiler: {error}"))?;
    let mut probe = Command::new(&compiler);
    probe.args(["-fsyntax-only", "-include", "amqp.h", "-x", "c", "/dev/null"]);
    debian("librabbitmq-dev", &mut probe)?;
    let folder = target().join("c");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let program = folder.join(std::process::id().to_string());
    let mut compile = Command::new(&compiler);
    compile.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-o"]).arg(&program).arg(source);
    output(compile.args(["-lrabbitmq", "-lpthread"])).unwrap_or_else(|error| panic!("{error}"));
    Ok(program)
}

/// Starts a command whose children can be ended with it.
fn start(command: &mut Command, log: &Path) -> std::io::Result<Child> {
    let file = File::create(log)?;
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()
}

/// Waits until a child ends. After the deadline, kills it with its own children.
fn wait(mut child: Child) -> Option<ExitStatus> {
    let group = child.id();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait()));
    if let Ok(status) = end.recv_timeout(DEADLINE) {
        return status.ok();
    }
    let _killed = output(Command::new("kill").args(["-KILL", "--"]).arg(format!("-{group}")));
    None
}

/// Runs a session to its end. Returns why it failed.
fn run(name: &str, script: &str, language: Language) -> Result<(), String> {
    let mut command = match language.command(script) {
        Ok(command) => command,
        Err(why) if language.is_provided() && std::env::var_os("CI").is_some() => {
            return Err(format!("CI must run {script}, but can't: {why}"));
        }
        Err(why) => {
            // Not with `eprintln!`, whose output libtest hides if the test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {script}: {why}");
            return Ok(());
        }
    };
    let log = target().join(format!("{name}-{}.log", std::process::id()));
    let child = start(command.arg(&broker().amqp), &log).map_err(|error| format!("{command:?}: {error}"))?;
    let status = wait(child);
    let steps = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let _ = fs::remove_file(&log);
    match status {
        Some(status) if status.success() && steps.contains(": close\n") => Ok(()),
        Some(status) => Err(format!("{script}: {status}\n{steps}")),
        None => Err(format!("{script} did not end within {DEADLINE:?}\n{steps}")),
    }
}

type Running = JoinHandle<Result<(), String>>;

/// Starts the sessions whose names the command line asks for.
fn start_all() -> BTreeMap<&'static str, Mutex<Option<Running>>> {
    // The values of options are among these. At worst a session runs that no test waits for.
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let wanted = SESSIONS.into_iter().filter(|(name, ..)| wanted(name));
    wanted
        .map(|(name, script, language)| (name, Mutex::new(Some(thread::spawn(move || run(name, script, language))))))
        .collect()
}

/// Waits for the session of a test.
#[track_caller]
fn session(name: &str) {
    static RUNNING: OnceLock<BTreeMap<&'static str, Mutex<Option<Running>>>> = OnceLock::new();
    let running = RUNNING.get_or_init(start_all).get(name);
    let running = running.and_then(|session| session.lock().expect("a test waits once").take());
    let outcome = match running {
        Some(session) => session.join().expect("the session's thread does not panic"),
        None => {
            let known = SESSIONS.into_iter().find(|(known, ..)| *known == name);
            let (name, script, language) = known.expect("each test has a session");
            run(name, script, language)
        }
    };
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

macro_rules! tests {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            session(stringify!($name));
        }
    )*};
}

tests! {
    aio_pika
    amqp091_go
    amqp_client
    amqplib
    amqpstorm
    bunny
    celery
    java
    kombu
    librabbitmq
    pika
    py_amqp
    rabbitmq_client
}
