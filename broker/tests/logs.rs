//! What the program logs.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use hopmq_blocking::{Connection, Recovery};
use serde_json::Value;

/// The program while it runs. It is killed when the value is dropped.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopmq-broker"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("guest@")?.1.to_owned())).expect("it starts");
        Self { child, address }
    }

    fn connect(&self, user: &str, password: &str) -> hopmq_blocking::Result<Connection> {
        let uri = format!("amqp://{user}:{password}@{}", self.address);
        Connection::builder().uri(&uri).recovery(Recovery::off()).open()
    }

    /// Stops the program. Returns what it logged.
    fn logs(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut logs = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
        assert!(self.child.wait().unwrap().success(), "{logs}");
        logs
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // As a rule it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parsed(logs: &str) -> Vec<Value> {
    logs.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn with_message<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["fields"]["message"] == message);
    &found.unwrap_or_else(|| panic!("no line with {message:?} in {lines:#?}"))["fields"]
}

#[test]
fn a_refused_login_is_logged_without_its_password() {
    let program = Program::start(&["--log-format", "json"]);
    for user in ["guest", "waiter"] {
        assert!(program.connect(user, "open-sesame").is_err());
    }
    let logs = program.logs();
    assert!(!logs.contains("sesame"), "{logs}");
    let lines = parsed(&logs);
    let refused: Vec<&Value> =
        lines.iter().map(|line| &line["fields"]).filter(|fields| fields["message"] == "login refused").collect();
    let facts: Vec<_> =
        refused.iter().map(|fields| [&fields["user"], &fields["mechanism"], &fields["reason"]]).collect();
    assert_eq!(facts, [["guest", "PLAIN", "wrong password"], ["waiter", "PLAIN", "unknown user"]]);
    assert!(refused.iter().all(|fields| fields["peer"].as_str().unwrap().starts_with("127.0.0.1:")), "{refused:#?}");
}

#[test]
fn connections_and_refused_operations_are_logged() {
    let program = Program::start(&["--log-format", "json"]);
    let connection = program.connect("guest", "guest").unwrap();
    let refused = connection.channel().unwrap().queue("amq.mine").declare();
    assert_eq!(refused.unwrap_err().code(), Some(403));
    connection.close().unwrap();
    let lines = parsed(&program.logs());
    assert_eq!(with_message(&lines, "starting")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(with_message(&lines, "listening")["tls"], false);
    let opened = with_message(&lines, "connection opened");
    assert_eq!([&opened["user"], &opened["vhost"]], ["guest", "/"]);
    let refused = with_message(&lines, "access refused");
    assert_eq!([&refused["user"], &refused["method"]], ["guest", "queue.declare"]);
    let closed = with_message(&lines, "connection closed");
    assert_eq!([&closed["user"], &closed["connection"]], [&opened["user"], &opened["connection"]]);
    assert!(closed["reason"].as_str().unwrap().contains("the client closed it: 200"), "{closed}");
    with_message(&lines, "stopped");
}

#[test]
fn a_trace_of_the_wire_names_methods_and_holds_no_secrets() {
    let program = Program::start(&["--log", "warn,hopmq_broker::wire=trace"]);
    let connection = program.connect("guest", "guest").unwrap();
    connection.channel().unwrap().queue("orders").declare().unwrap().publish("a pizza").confirm().unwrap();
    connection.close().unwrap();
    let logs = program.logs();
    assert!(!logs.contains("guest") && !logs.contains("pizza") && !logs.contains('\u{1b}'), "{logs}");
    for (way, method) in [
        ("sent", "connection.start"),
        ("received", "connection.start-ok"),
        ("received", "basic.publish"),
        ("sent", "basic.ack"),
        ("sent", "connection.close-ok"),
    ] {
        let is_it = |line: &str| line.contains(&format!("{way} ")) && line.contains(&format!("method=\"{method}\""));
        assert!(logs.lines().any(is_it), "no line with {way} {method} in {logs}");
    }
}

#[test]
fn what_a_client_sends_stays_on_its_line_and_is_cut() {
    let hostile = "a\r\n2030-01-01T00:00:00Z  INFO forged: \"x\" user=admin\u{202e}\u{2028}\u{1b}[2J";
    let long = hostile.repeat(40);
    let program = Program::start(&[]);
    let builder = Connection::builder().uri(&format!("amqp://guest:guest@{}", program.address));
    let connection = builder.connection_name(&long).recovery(Recovery::off()).open().unwrap();
    assert_eq!(connection.channel().unwrap().queue(&format!("amq.{hostile}")).declare().unwrap_err().code(), Some(403));
    connection.close().unwrap();
    assert!(program.connect(&"%0A%1Bforged".repeat(150), "open-sesame").is_err());
    let logs = program.logs();
    for line in logs.lines() {
        assert!(line.starts_with("20") && !line.starts_with("2030") && line.len() < 2000, "{line}");
    }
    assert!(!logs.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{2028}'), "{logs:?}");
    assert!(logs.contains("connection opened") && logs.contains("access refused") && logs.contains("login refused"));
}

#[test]
fn an_unknown_level_is_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_hopmq-broker")).args(["--log", "loud"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("'loud'") && error.contains("error, warn, info"), "{error}");
}

/// Returns the features of the records "deprecated feature".
fn deprecated(profile: &str) -> Vec<String> {
    let program = Program::start(&["--log-format", "json", "--profile", profile]);
    let connection = program.connect("guest", "guest").unwrap();
    let channel = connection.channel().unwrap();
    for _ in 0..3 {
        channel.queue("transient").declare().unwrap();
        channel.queue("durable").durable().argument("x-queue-master-locator", "min-masters").declare().unwrap();
        channel.queue("").exclusive().declare().unwrap();
        channel.prefetch_shared(10).unwrap();
    }
    connection.close().unwrap();
    let lines = parsed(&program.logs());
    let records = lines.iter().map(|line| &line["fields"]).filter(|fields| fields["message"] == "deprecated feature");
    records.map(|fields| fields["feature"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_use_of_a_deprecated_feature_is_logged_once() {
    assert_eq!(deprecated("4.0"), ["transient_nonexcl_queues", "queue_master_locator", "global_qos"]);
    assert!(deprecated("3.13").is_empty());
}
