//! Runs each example as a program of its own, within a time limit, and checks that it prints what it promises.
//!
//! `cargo test` builds the examples before it runs this, unless it is told to build this test alone.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// The longest that an example may take: the quickstart, unoptimised, beside everything else that runs.
const LIMIT: Duration = Duration::from_secs(300);

/// For each example its source and what it prints, in this order, whatever comes between.
macro_rules! examples {
    ($($name:ident: $source:literal [$($line:literal),* $(,)?];)*) => {$(
        #[test]
        fn $name() {
            let output = run(stringify!($name), $source, &[]).expect_success();
            expect_in_order(&output, &[$($line),*]);
        }
    )*};
}

examples! {
    smol_hello: "smol/hello.rs" ["sent      Hello World!", "received  Hello World!"];
    smol_publish_subscribe: "smol/publish_subscribe.rs" [
        "published  stopping",
        "screen     starting", "screen     ready", "screen     stopping",
        "disk       starting", "disk       ready", "disk       stopping",
    ];
    smol_routing: "smol/routing.rs" [
        "published  debug: x = 3",
        "\npager      error: disk full\nscreen     info: ready\n",
        "screen     warning: disk nearly full\nscreen     error: disk full\n",
    ];
    smol_topics: "smol/topics.rs" [
        "orange     quick.orange.rabbit\norange     lazy.orange.elephant\n",
        "calm       quick.orange.rabbit\ncalm       lazy.orange.elephant\ncalm       lazy.pink.rabbit\n",
        "all        quick.orange.rabbit\nall        lazy.orange.elephant\nall        quick.brown.fox\n",
    ];
    blocking_hello: "blocking/hello.rs" ["sent      Hello World!", "received  Hello World!"];
    blocking_publish_subscribe: "blocking/publish_subscribe.rs" [
        "published  stopping",
        "screen     starting", "screen     ready", "screen     stopping",
        "disk       starting", "disk       ready", "disk       stopping",
    ];
    blocking_routing: "blocking/routing.rs" [
        "published  debug: x = 3",
        "\npager      error: disk full\nscreen     info: ready\n",
        "screen     warning: disk nearly full\nscreen     error: disk full\n",
    ];
    blocking_topics: "blocking/topics.rs" [
        "orange     quick.orange.rabbit\norange     lazy.orange.elephant\n",
        "calm       quick.orange.rabbit\ncalm       lazy.orange.elephant\ncalm       lazy.pink.rabbit\n",
        "all        quick.orange.rabbit\nall        lazy.orange.elephant\nall        quick.brown.fox\n",
    ];
    blocking_rpc: "blocking/rpc.rs" [
        "fibonacci(5) = 5", "fibonacci(30) = 832040", "the server ended: ", "without a server: ", "NO_ROUTE",
    ];
    blocking_confirms: "blocking/confirms.rs" ["one by one ", "in batches ", "in a window ", "returned ", "NO_ROUTE"];
    smol_rpc: "smol/rpc.rs" ["fibonacci(5) = 5", "fibonacci(30) = 832040", "without a server: ", "NO_ROUTE"];
    smol_confirms: "smol/confirms.rs" ["one by one ", "in batches ", "in a window ", "returned ", "NO_ROUTE"];
    tokio: "tokio.rs" ["received 5", "the sum is 15", "nothing else came", "then came \"one more\""];
    own_driver: "own_driver.rs" [
        "on this thread", "received \"to myself\"", "on an executor", "received \"to myself\"",
    ];
    tls: "tls.rs" ["refused: ", "UnknownIssuer", "by password:    connected", "by certificate: connected"];
    quickstart: "quickstart.rs" [
        "Connected to RabbitMQ",
        "publishing 100 %", "100000 messages of 100 bytes published and confirmed in ", " a second",
        "consuming  100 %", "100000 messages of 100 bytes consumed and acknowledged in ", " a second",
    ];
}

#[test]
fn work_queues_share_all_tasks() {
    let smol = run("smol_work_queues", "smol/work_queues.rs", &[]).expect_success();
    let blocking = run("blocking_work_queues", "blocking/work_queues.rs", &[]).expect_success();
    for output in [smol, blocking] {
        expect_in_order(&output, &["6 tasks wait"]);
        let done = |name: &str| output.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(done("Ada: ") + done("Ben: "), 6, "{output}");
    }
}

#[test]
fn a_shutdown_finishes_the_job_in_hand() {
    let mut command = Command::new(program("shutdown", "shutdown.rs"));
    command.arg("once");
    let output = run_command("shutdown", command).expect_success();
    expect_in_order(&output, &["begun     job 3", "shutting down", "finished  job 3", "all is done"]);
    let count = |what: &str| output.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("begun"), count("finished"), "{output}");
    assert!(count("finished") < 20, "{output}");
}

#[test]
fn the_quickstart_says_what_to_do_without_a_broker() {
    // Port 1 is nobody's.
    let ended = run("quickstart", "quickstart.rs", &[("AMQP_URL", "amqp://127.0.0.1:1")]);
    assert!(!ended.success);
    expect_in_order(&ended.output, &["It did not work: 127.0.0.1:1 can't be reached", "AMQP_URL", "leave it out"]);
}

#[test]
fn the_quickstart_needs_no_broker() {
    let mut command = Command::new(program("quickstart", "quickstart.rs"));
    command.env_remove("AMQP_URL");
    let output = run_command("quickstart", command).expect_success();
    expect_in_order(
        &output,
        &[
            "AMQP_URL is not set: this runs on a broker within this program.",
            "Connected to HopMQ",
            "100000 messages of 100 bytes published and confirmed in ",
            "100000 messages of 100 bytes consumed and acknowledged in ",
        ],
    );
}

#[cfg(unix)]
#[test]
fn shutdown_finishes_what_is_in_hand_when_it_is_terminated() {
    assert!(std::env::var_os("AMQP_URL").is_some(), "AMQP_URL names no broker to test against: run `cargo xtask test`");
    let mut child = Command::new(program("shutdown", "shutdown.rs")).stdout(Stdio::piped()).spawn().expect("it starts");
    let output = child.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            sender.send(line.expect("it prints text"))?;
        }
        Ok::<_, mpsc::SendError<String>>(())
    });
    let mut said = String::new();
    let mut begun = 0;
    while let Ok(line) = receiver.recv_timeout(LIMIT) {
        said += &line;
        said += "\n";
        begun += usize::from(line.starts_with("begun"));
        if line.starts_with("begun") && begun == 2 {
            let status = Command::new("kill").arg(child.id().to_string()).status().expect("there is a `kill`");
            assert!(status.success());
        }
    }
    let status = match child.try_wait().expect("it can be awaited") {
        // It has closed its output, so it is about to end.
        None => child.wait().expect("it can be awaited"),
        Some(status) => status,
    };
    assert!(status.success(), "{status}:\n{said}");
    expect_in_order(&said, &["begun     job 2", "shutting down", "no more jobs"]);
    // It may have gone on before the signal came, so the job in hand is whichever was begun then.
    let (before, after) = said.split_once("shutting down").expect("it says so");
    for job in before.lines().filter_map(|line| line.strip_prefix("begun     ")) {
        let finished = format!("finished  {job}\n");
        assert!(before.contains(&finished) || after.contains(&finished), "{job} is not finished:\n{said}");
    }
    assert!(said.contains("all is done"), "{said}");
    assert!(said.matches("begun").count() < 20, "it takes in nothing new:\n{said}");
    assert_eq!(said.matches("begun").count(), said.matches("finished").count(), "{said}");
}

/// How an example ended.
struct Ended {
    name: String,
    success: bool,
    /// What it printed, followed by what it complained of.
    output: String,
}

impl Ended {
    fn expect_success(self) -> String {
        assert!(self.success, "{} failed:\n{}", self.name, self.output);
        self.output
    }
}

/// Runs an example to its end.
fn run(name: &str, source: &str, environment: &[(&str, &str)]) -> Ended {
    assert!(std::env::var_os("AMQP_URL").is_some(), "AMQP_URL names no broker to test against: run `cargo xtask test`");
    let mut command = Command::new(program(name, source));
    command.envs(environment.iter().copied());
    run_command(name, command)
}

fn run_command(name: &str, mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example starts");

    let (sender, receiver) = mpsc::channel();
    let pipes: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("it is piped")), Box::new(child.stderr.take().expect("it is piped"))];
    for (index, mut pipe) in pipes.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).expect("a pipe can be read");
            sender.send((index, String::from_utf8_lossy(&text).into_owned()))
        });
    }
    let mut texts = [String::new(), String::new()];
    for _ in 0..2 {
        // Both pipes end when the program does.
        let Ok((index, text)) = receiver.recv_timeout(LIMIT) else {
            child.kill().expect("it can be killed");
            panic!("{name} did not end within {LIMIT:?}");
        };
        texts[index] = text;
    }
    let success = child.wait().expect("it can be awaited").success();
    Ended { name: name.to_owned(), success, output: texts.concat() }
}

/// The program, which lies beside this test's.
fn program(name: &str, source: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let profile = test.ancestors().nth(2).expect("it is target/PROFILE/deps/run-…");
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let is_current = modified(&program) >= modified(&source);
    assert!(is_current, "the example {name} is not built, or older than its source: run `cargo build --examples`");
    program
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

fn expect_in_order(output: &str, parts: &[&str]) {
    let mut rest = output;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("{part:?} is missing, or not where it belongs, in:\n{output}") };
        rest = &rest[at + part.len()..];
    }
}
