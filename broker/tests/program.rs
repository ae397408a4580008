//! The program `hopmq-broker`, started as a user starts it.

mod running;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hopmq_blocking::{Connection, Recovery};
use running::{Running, program, start};

/// Runs a program that must fail to start, and returns its error output.
fn refusal(arguments: &[&str]) -> String {
    let output = program(arguments).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

impl Running {
    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Sends SIGTERM, and returns the rest of the output.
    #[cfg(unix)]
    fn terminate(mut self) -> String {
        self.signal("TERM");
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

#[test]
#[cfg(unix)]
fn the_program_drains_on_sigterm_and_keeps_confirmed_messages() {
    let folder = std::env::temp_dir().join(format!("hopmq-broker-program-{}", std::process::id()));
    let data = ["--data", folder.to_str().unwrap()];
    let running = start(&data);
    let connection = running.connect();
    let queue = connection.channel().unwrap().queue("kept").durable().declare().unwrap();
    queue.publish("for ever").persistent().confirm().unwrap();
    let locked = refusal(&["--listen", "127.0.0.1:0", data[0], data[1]]);
    assert!(locked.contains("another broker has the folder") && locked.contains("--data"), "{locked}");
    let said = running.terminate();
    assert!(said.contains("closing all connections") && said.ends_with("ended\n"), "{said}");
    let error = connection.closed();
    assert_eq!(error.code(), Some(320), "{error}");

    let running = start(&data);
    let connection = running.connect();
    let queue = connection.channel().unwrap().queue("kept").durable().declare().unwrap();
    assert_eq!(queue.consume().start().unwrap().next().unwrap().unwrap().text(), "for ever");
    connection.close().unwrap();
    running.terminate();
    std::fs::remove_dir_all(folder).unwrap();
}

/// A client that is idle may never answer: the program must not wait for it.
#[test]
#[cfg(unix)]
fn the_program_does_not_wait_for_an_idle_client_on_sigterm() {
    let running = start(&["--drain", "10m"]);
    let address = running.uri.rsplit('@').next().unwrap().to_owned();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"AMQP\0\0\x09\x01").unwrap();
    idle.read_exact(&mut [0; 7]).unwrap();
    let begin = Instant::now();
    running.terminate();
    // It takes about 300 ms, on a machine that is not busy.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
#[cfg(unix)]
fn sigterm_ends_the_program_at_once_while_a_client_is_idle() {
    use std::time::{Duration, Instant};

    let running = start(&[]);
    let address = running.uri.rsplit('@').next().unwrap().to_owned();
    // A client that is logged in, and whose program does other things than to read.
    let stream = async_io::Async::<std::net::TcpStream>::connect(address.parse::<std::net::SocketAddr>().unwrap());
    let _idle = futures_lite::future::block_on(async {
        hopmq::Connection::builder().handshake(stream.await.unwrap(), hopmq::IoTimer::new()).await.unwrap()
    });
    let _silent = std::net::TcpStream::connect(&address).unwrap();
    let connection = running.connect();
    let started = Instant::now();
    running.terminate();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(connection.closed().code(), Some(320));
}

#[test]
#[cfg(unix)]
fn sighup_is_ignored() {
    let running = start(&[]);
    let connection = running.connect();
    running.signal("HUP");
    let queue = connection.channel().unwrap().queue("q").declare().unwrap();
    queue.publish("still here").confirm().unwrap();
    connection.close().unwrap();
    running.terminate();
}

#[test]
#[cfg(unix)]
fn what_is_not_supported_in_definitions_is_named_and_can_be_skipped() {
    let file = std::env::temp_dir().join(format!("hopmq-broker-skipped-{}.json", std::process::id()));
    std::fs::write(&file, include_str!("rabbitmq/4.0.5.json")).unwrap();
    let definitions = ["--definitions", file.to_str().unwrap()];
    let said = refusal(&[&["--listen", "127.0.0.1:0"], &definitions[..]].concat());
    for part in ["policy \"ttl\" in \"shop\"", "operator policy \"most\"", "--skip-unsupported starts without"] {
        assert!(said.contains(part), "{said}");
    }
    let mut running = start(&[&definitions[..], &["--skip-unsupported"]].concat());
    let mut logs = running.child.stderr.take().unwrap();
    running.terminate();
    let mut logged = String::new();
    logs.read_to_string(&mut logged).unwrap();
    let warnings = logged.lines().filter(|line| line.contains("WARN") && line.contains("left out of the definitions"));
    assert_eq!(warnings.count(), 2, "{logged}");
    std::fs::remove_file(file).unwrap();
}

#[test]
#[cfg(unix)]
fn the_banner_shows_no_password_that_does_not_work() {
    let folder = std::env::temp_dir().join(format!("hopmq-broker-banner-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let definitions = folder.join("definitions.json");
    std::fs::write(&definitions, r#"{"users": [{"name": "cook", "password": "soup", "tags": "administrator"}]}"#)
        .unwrap();
    let data = folder.join("data");
    let data = ["--data", data.to_str().unwrap()];
    let with_definitions = [data[0], data[1], "--definitions", definitions.to_str().unwrap()];
    // The second start imports nothing: the user of the first is in the data, and guest stays away.
    for arguments in [&with_definitions[..], &data[..]] {
        let running = start(arguments);
        assert!(running.uri.starts_with("amqp://127.0.0.1:"), "{}", running.uri);
        let open = |user: &str| {
            let uri = running.uri.replace("amqp://", &format!("amqp://{user}@"));
            Connection::builder().uri(&uri).recovery(Recovery::off()).open()
        };
        assert_eq!(open("guest:guest").unwrap_err().code(), Some(403));
        // The user exists, and has no permissions in the virtual host.
        assert_eq!(open("cook:soup").unwrap_err().code(), Some(530));
        running.terminate();
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_program_says_why_it_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(&["--listen", &address]);
    assert!(said.contains(&format!("{address}: the port is in use")) && said.contains("--listen"), "{said}");
    let said = refusal(&["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"]);
    assert!(said.contains("--tls-certificate") && said.contains("--tls-key"), "{said}");
    let tls =
        ["--tls-listen", "127.0.0.1:0", "--tls-certificate", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"];
    let said = refusal(&[&["--listen", "127.0.0.1:0"], &tls[..]].concat());
    assert!(said.contains("--tls-certificate /nowhere/cert.pem: "), "{said}");
    let said = refusal(&["--listen", "localhost:5672"]);
    assert!(said.contains("'localhost:5672'") && said.contains("an IP address and a port"), "{said}");
    let said = refusal(&["--memory-limit", "0.4"]);
    assert!(said.contains("write 1% to 100% of the memory, or a size"), "{said}");
    let said = refusal(&["--drain", "soon"]);
    assert!(said.contains("\"soon\" is not a duration"), "{said}");
}

#[test]
fn the_help_names_every_option_and_the_exit_codes() {
    assert_eq!(program(&["--unknown"]).output().unwrap().status.code(), Some(2));
    assert_eq!(program(&["--definitions", "/nowhere"]).output().unwrap().status.code(), Some(1));
    let output = program(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for part in [
        "127.0.0.1:5672",
        "--listen",
        "--data <FOLDER>",
        "--drain",
        "--salvage",
        "--disk-free-limit <SIZE>",
        "[default: 50MB]",
        "--memory-limit <SHARE|SIZE>",
        "[default: 40%]",
        "--skip-unsupported",
        "--proxy-protocol",
        "SIGHUP is ignored",
    ] {
        assert!(help.contains(part), "{help}");
    }
}
