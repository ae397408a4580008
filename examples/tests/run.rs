//! Runs each example as a program of its own, within a time limit, and checks what it prints.
//!
//! `cargo test` builds the examples before it runs this test, unless it is told to build this test alone.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// How long an example may take: the unoptimised quickstart, while other tests run, is the longest.
const LIMIT: Duration = Duration::from_secs(300);

/// For each example, its source and the texts that it must print in this order; other output may come between.
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
    headers: "headers.rs" ["attempt 1 for tenant \"north\"", "attempt 2 for tenant \"south\"", "no headers"];
    tokio: "tokio.rs" ["received 5", "the sum is 15", "no more messages", "received \"one more\""];
    own_driver: "own_driver.rs" [
        "on this thread", "received \"to myself\"", "on an executor", "received \"to myself\"",
    ];
    groups: "groups.rs" [
        "each message goes to one member of the group mail", "mail       ", "all orders are handled",
        "Ben has gone", "all orders are handled", "each customer's orders came in their order",
    ];
    outbox: "outbox.rs" [
        "sold       ", "refused    ", "the stock of pizza is 1", "shipped    ", "skipped    ", "2 sold, 2 shipped",
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
        expect_in_order(&output, &["6 tasks queued"]);
        let done = |name: &str| output.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(done("Ada: ") + done("Ben: "), 6, "{output}");
    }
}

#[test]
fn shutdown_finishes_the_job_in_progress() {
    let mut command = Command::new(program("shutdown", "shutdown.rs"));
    command.arg("once");
    let output = run_command("shutdown", command).expect_success();
    expect_in_order(&output, &["started   job 3", "shutting down", "finished  job 3", "shut down"]);
    let count = |what: &str| output.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("started"), count("finished"), "{output}");
    assert!(count("finished") < 20, "{output}");
}

/// What `orders` prints of each order. Orders are handled side by side, so lines of different orders may come in any
/// order.
const ORDERS: [&[&str]; 5] = [
    &["order 1: 2 pizzas for 16 €, done"],
    &["order 2: attempt 1 failed: the oven is full", "order 2: 1 pizza for 9 €, done (attempt 2)"],
    &["dead letter after 1 attempt: invalid: the body breaks rules: count: "],
    &["order 4: attempt 1", "order 4: attempt 2", "order 4: attempt 3", "dead letter after 3 attempts: panic: "],
    &["dead letter after 1 attempt: decode: the body is not the JSON of Order"],
];

#[test]
fn orders_are_done_retried_and_dead_lettered() {
    let output = run("orders", "orders.rs", &[]).expect_success();
    ORDERS.iter().for_each(|lines| expect_in_order(&output, lines));
    expect_in_order(&output, &["2 orders done, 3 dead letters"]);
}

#[test]
fn orders_need_no_broker() {
    let mut command = Command::new(program("orders", "orders.rs"));
    command.env_remove("AMQP_URL");
    let output = run_command("orders", command).expect_success();
    expect_in_order(&output, &["using a broker within this program"]);
    ORDERS.iter().for_each(|lines| expect_in_order(&output, lines));
    expect_in_order(&output, &["2 orders done, 3 dead letters"]);
}

#[test]
fn the_quickstart_says_what_to_do_without_a_broker() {
    // Nothing listens on port 1.
    let ended = run("quickstart", "quickstart.rs", &[("AMQP_URL", "amqp://127.0.0.1:1")]);
    assert!(!ended.success);
    expect_in_order(&ended.output, &["Error: 127.0.0.1:1", "AMQP_URL", "unset it"]);
}

#[test]
fn the_quickstart_needs_no_broker() {
    let mut command = Command::new(program("quickstart", "quickstart.rs"));
    command.env_remove("AMQP_URL");
    let output = run_command("quickstart", command).expect_success();
    expect_in_order(
        &output,
        &[
            "AMQP_URL is not set: using a broker within this program.",
            "Connected to HopMQ",
            "100000 messages of 100 bytes published and confirmed in ",
            "100000 messages of 100 bytes consumed and acknowledged in ",
        ],
    );
}

#[test]
fn rpc_prices_needs_no_broker() {
    let mut command = Command::new(program("rpc_prices", "rpc_prices.rs"));
    command.env_remove("AMQP_URL");
    let output = run_command("rpc_prices", command).expect_success();
    expect_in_order(
        &output,
        &[
            "AMQP_URL is not set: using a broker within this program.",
            "before the server starts: no server consumes from 'pricing'",
            "2 × margherita: 18 euros\n10 × funghi: 88 euros\n1 × hawaii: there is no pizza hawaii\n",
            "the next prices of funghi: [11, 12, 13]\n1000 calls at once took ",
        ],
    );
}

#[cfg(unix)]
#[test]
fn shutdown_finishes_the_job_in_progress_on_sigterm() {
    assert!(std::env::var_os("AMQP_URL").is_some(), "AMQP_URL is not set: run `cargo xtask test`");
    let mut child =
        Command::new(program("shutdown", "shutdown.rs")).stdout(Stdio::piped()).spawn().expect("the example starts");
    let output = child.stdout.take().expect("the output is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            sender.send(line.expect("the example prints text"))?;
        }
        Ok::<_, mpsc::SendError<String>>(())
    });
    let mut printed = String::new();
    let mut started = 0;
    while let Ok(line) = receiver.recv_timeout(LIMIT) {
        printed += &line;
        printed += "\n";
        started += usize::from(line.starts_with("started"));
        if line.starts_with("started") && started == 2 {
            let status = Command::new("kill").arg(child.id().to_string()).status().expect("`kill` is installed");
            assert!(status.success());
        }
    }
    let status = match child.try_wait().expect("the example can be awaited") {
        // The program has closed its output, so it is about to end.
        None => child.wait().expect("the example can be awaited"),
        Some(status) => status,
    };
    assert!(status.success(), "{status}:\n{printed}");
    expect_in_order(&printed, &["started   job 2", "shutting down", "no more jobs"]);
    // The signal may arrive during a later job, so check all jobs that were started before it.
    let (before, after) = printed.split_once("shutting down").expect("the text was found above");
    for job in before.lines().filter_map(|line| line.strip_prefix("started   ")) {
        let finished = format!("finished  {job}\n");
        assert!(before.contains(&finished) || after.contains(&finished), "{job} is not finished:\n{printed}");
    }
    assert!(printed.contains("shut down"), "{printed}");
    assert!(printed.matches("started").count() < 20, "new jobs were started:\n{printed}");
    assert_eq!(printed.matches("started").count(), printed.matches("finished").count(), "{printed}");
}

/// The outcome of an example.
struct Ended {
    name: String,
    success: bool,
    /// Standard output, followed by standard error.
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
    assert!(std::env::var_os("AMQP_URL").is_some(), "AMQP_URL is not set: run `cargo xtask test`");
    let mut command = Command::new(program(name, source));
    command.envs(environment.iter().copied());
    run_command(name, command)
}

fn run_command(name: &str, mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example starts");

    let (sender, receiver) = mpsc::channel();
    let pipes: [Box<dyn Read + Send>; 2] = [
        Box::new(child.stdout.take().expect("the output is piped")),
        Box::new(child.stderr.take().expect("the output is piped")),
    ];
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
            child.kill().expect("the example can be killed");
            panic!("{name} did not end within {LIMIT:?}");
        };
        texts[index] = text;
    }
    let success = child.wait().expect("the example can be awaited").success();
    Ended { name: name.to_owned(), success, output: texts.concat() }
}

/// Returns the path of an example's program, and checks that the program is up to date.
fn program(name: &str, source: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let profile = test.ancestors().nth(2).expect("the path is target/PROFILE/deps/run-…");
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
        let Some(at) = rest.find(part) else { panic!("{part:?} is missing or out of order in:\n{output}") };
        rest = &rest[at + part.len()..];
    }
}
