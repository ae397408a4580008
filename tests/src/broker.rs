//! The broker under test, described by the environment.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::embedded::embedded;
use crate::{Failure, Outcome};

/// The addresses and tools of the broker, from the variables that `cargo xtask rabbitmq env` prints.
#[derive(Debug, Default)]
pub struct Broker {
    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`
    pub amqp: String,
    /// The URI for TLS.
    pub amqps: String,
    /// The folder of `ca.pem`, `client.pem`, `client.key` and so on.
    pub tls: String,
    http: String,
    ctl: String,
    xtask: String,
    /// How the broker was stopped, if it must be restarted.
    stopped: Mutex<Option<Stopped>>,
}

#[derive(Clone, Copy, Debug)]
enum Stopped {
    Killed,
    Application,
}

/// Returns the broker under test.
///
/// # Panics
/// If a variable is not set.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| match embedded() {
        Some(embedded) => Broker {
            amqp: embedded.amqp.clone(),
            amqps: embedded.amqps.clone(),
            tls: embedded.tls.clone(),
            ..Broker::default()
        },
        None => Broker {
            amqp: variable("AMQP_URL"),
            amqps: variable("AMQPS_URL"),
            tls: variable("HOPMQ_TLS_DIR"),
            http: variable("RABBITMQ_HTTP"),
            ctl: variable("HOPMQ_RABBITMQCTL"),
            xtask: variable("HOPMQ_XTASK"),
            ..Broker::default()
        },
    })
}

fn variable(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) => value,
        Err(_) => panic!(
            "{name} is not set; run `cargo xtask test`, or `cargo xtask rabbitmq start` and then \
             `export $(cargo xtask rabbitmq env)`, or set HOPMQ_BROKER=embedded"
        ),
    }
}

impl Broker {
    /// Returns `host:port` of the AMQP listener.
    pub fn address(&self) -> &str {
        let after = self.amqp.rsplit_once('@').map_or(self.amqp.as_str(), |(_, after)| after);
        after.split('/').next().unwrap_or(after)
    }

    /// Returns `host:port` of the TLS listener.
    pub fn tls_address(&self) -> &str {
        let after = self.amqps.rsplit_once('@').map_or(self.amqps.as_str(), |(_, after)| after);
        after.split('/').next().unwrap_or(after)
    }

    /// Returns the URI with another user.
    pub fn amqp_as(&self, user: &str, password: &str) -> String {
        self.amqp.replacen("guest:guest", &format!("{user}:{password}"), 1)
    }

    /// Runs `rabbitmqctl`, and returns its output.
    ///
    /// # Errors
    /// If it fails, with its error output.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Outcome<String> {
        let output = Command::new(&self.ctl).arg("--quiet").args(arguments).output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(Failure::new(format!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))))
        }
    }

    /// Kills the broker as `kill -9` does. [`Broker::revive`] restarts it with its data; the harness does so if the
    /// scenario fails before.
    ///
    /// RabbitMQ 3.10 replies to a declaration when its transaction is on disk. Its database, Mnesia, rolls the
    /// transaction back at the next start unless the decision to commit is on disk too, which a busy machine may write
    /// seconds later. This waits for that write, so that earlier declarations survive.
    ///
    /// # Errors
    /// If a command fails.
    pub fn kill(&self) -> Outcome {
        self.ctl(&["eval", "sys:get_state(mnesia_recover), mnesia:sync_log()."])?;
        *self.stopped() = Some(Stopped::Killed);
        self.xtask("kill")
    }

    /// Stops RabbitMQ, but not its Erlang node. [`Broker::revive`] restarts it.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub fn stop(&self) -> Outcome {
        *self.stopped() = Some(Stopped::Application);
        self.ctl(&["stop_app"]).map(drop)
    }

    /// Restarts a broker that was stopped or killed. Does nothing if it runs.
    ///
    /// After a restart of RabbitMQ 3.10 the only member of a quorum queue may wait for ever for a leader
    /// ([#10070](https://github.com/rabbitmq/rabbitmq-server/issues/10070)). So this triggers an election in each
    /// quorum queue, and waits for its leader.
    ///
    /// # Errors
    /// If the broker does not start, or a command fails.
    pub fn revive(&self) -> Outcome {
        // The lock is held until the broker runs: other callers wait for that.
        let mut stopped = self.stopped();
        match *stopped {
            Some(Stopped::Killed) => self.xtask("resume")?,
            Some(Stopped::Application) => drop(self.ctl(&["start_app"])?),
            None => return Ok(()),
        }
        *stopped = None;
        self.ctl(&[
            "eval",
            "[begin ra:trigger_election(amqqueue:get_pid(Q)), {ok, _, _} = ra:members(amqqueue:get_pid(Q), 30000) end \
             || Q <- rabbit_amqqueue:list(), amqqueue:is_quorum(Q)].",
        ])?;
        Ok(())
    }

    fn stopped(&self) -> MutexGuard<'_, Option<Stopped>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn xtask(&self, command: &str) -> Outcome {
        let output = Command::new(&self.xtask).args(["rabbitmq", command]).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Failure::new(format!("rabbitmq {command}: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }

    /// Sends a request to the management API, and returns the body of the response.
    ///
    /// # Errors
    /// If the response has no 2xx status.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str) -> Outcome<String> {
        self.http_with(method, path, "")
    }

    /// Sends a request with a JSON body to the management API, and returns the body of the response.
    ///
    /// # Errors
    /// If the response has no 2xx status.
    #[track_caller]
    pub fn http_with(&self, method: &str, path: &str, json: &str) -> Outcome<String> {
        let address = self.http.trim_start_matches("http://").trim_end_matches('/');
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        // base64 of guest:guest
        let head = format!("{method} {path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n");
        let length = json.len();
        let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}");
        socket.write_all(request.as_bytes())?;
        let mut response = String::new();
        socket.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
        if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
            Ok(body.to_owned())
        } else {
            Err(Failure::new(format!("{method} {path}: {head}")))
        }
    }
}

/// A memory alarm on the broker, until this is dropped.
#[derive(Debug)]
pub struct Alarm(());

impl Alarm {
    /// Raises the alarm. When this returns, the broker has notified all connections.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub fn raise() -> Outcome<Self> {
        let alarm = Self(());
        if let Some(embedded) = embedded() {
            embedded.broker.set_memory_alarm(true);
            return Ok(alarm);
        }
        // RabbitMQ tells its connections asynchronously. The process that lists the alarms is the one that tells them,
        // so its reply comes after that.
        let raise = "vm_memory_monitor:set_vm_memory_high_watermark(0.00001), [_ | _] = rabbit_alarm:get_alarms().";
        broker().ctl(&["eval", raise])?;
        Ok(alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(embedded) = embedded() {
            embedded.broker.set_memory_alarm(false);
        } else if let Err(failure) = broker().ctl(&["set_vm_memory_high_watermark", "absolute", "4GB"]) {
            eprintln!("cannot clear the memory alarm: {failure}");
        }
    }
}
