//! `cargo xtask rabbitmq container`: prepares a RabbitMQ that runs in a container, such as a service container of a CI
//! job, for the scenarios.
//!
//! The container must be of the image `rabbitmq:…-management` and must publish the ports 5672, 5671 and 15672 under the
//! same numbers. Only the scenarios run on it: the tests that kill a broker need the one of `cargo xtask rabbitmq`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::files::{self, quoted};
use super::node::{self, Ports};
use super::tls;
use crate::shell::{self, Result};

/// The folder with settings and certificates in the container.
const SETTINGS: &str = "/etc/rabbitmq/hopmq";
const PORTS: Ports = Ports { amqp: 5672, amqps: 5671, http: 15672, distribution: 25672, epmd: 4369 };
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Copies settings, users and certificates into the container, restarts it, and prints the environment of the tests.
pub(super) fn run(container: &str) -> Result {
    let folder = shell::root().join("target/rabbitmq-container");
    tls::write(&folder.join("settings/tls"), files::EXTERNAL_USER)?;
    shell::write(&folder.join("settings/definitions.json"), files::DEFINITIONS)?;
    shell::write(&folder.join("90-hopmq.conf"), &settings())?;
    shell::write(&folder.join("advanced.config"), files::ADVANCED)?;
    let ctl = folder.join("ctl");
    shell::write(&ctl, &format!("#!/bin/sh\nexec docker exec {} rabbitmqctl \"$@\"\n", quoted(container)))?;
    fs::set_permissions(&ctl, Permissions::from_mode(0o755))?;

    docker(&[&["exec", container, "rabbitmq-plugins", "enable", "--offline"], &files::PLUGINS[..]].concat())?;
    // With `/.`, docker copies the contents, whether or not the folder exists.
    copy(&folder.join("settings/."), container, SETTINGS)?;
    copy(&folder.join("90-hopmq.conf"), container, "/etc/rabbitmq/conf.d/90-hopmq.conf")?;
    copy(&folder.join("advanced.config"), container, "/etc/rabbitmq/advanced.config")?;
    docker(&["restart", container])?;
    await_start(container)?;
    shell::print(&super::lines(&node::environment(&PORTS, &folder.join("settings/tls"), &ctl)));
    Ok(())
}

/// The settings of the suite, on all addresses of the container. The image lets `guest` log in from other hosts.
fn settings() -> String {
    let ours = files::settings("0.0.0.0", SETTINGS, &PORTS);
    // The image logs to its console, which `docker logs` shows.
    let lines = ours.lines().filter(|line| !line.starts_with("log."));
    lines.chain(["loopback_users = none"]).map(|line| format!("{line}\n")).collect()
}

fn await_start(container: &str) -> Result {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let ready =
            docker(&["exec", container, "rabbitmqctl", "await_startup"]).and_then(|()| node::check_amqp(&PORTS));
        match ready {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                let seconds = START_TIMEOUT.as_secs();
                return Err(format!("RabbitMQ did not answer within {seconds} s: {error}; see `docker logs`").into());
            }
            Err(_) => thread::sleep(Duration::from_millis(500)),
        }
    }
}

fn copy(from: &Path, container: &str, to: &str) -> Result {
    shell::output(Command::new("docker").arg("cp").arg(from).arg(format!("{container}:{to}"))).map(drop)
}

fn docker(arguments: &[&str]) -> Result {
    shell::output(Command::new("docker").args(arguments)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::settings;

    #[test]
    fn the_container_listens_on_all_addresses_and_lets_guest_in() {
        let settings = settings();
        assert!(settings.contains("listeners.tcp.1 = 0.0.0.0:5672\n"), "{settings}");
        assert!(settings.contains("ssl_options.keyfile = /etc/rabbitmq/hopmq/tls/server.key\n"), "{settings}");
        assert!(settings.ends_with("loopback_users = none\n") && !settings.contains("127.0.0.1"), "{settings}");
    }
}
