//! The files of the test broker: settings, users, cookie, and the script that runs `rabbitmqctl`.

use std::fs::{self, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::PermissionsExt;

use super::node::{Node, Ports};
use super::tls;
use crate::shell::{self, Result};

/// The user of the client certificate, who logs in with EXTERNAL and has no password.
pub(crate) const EXTERNAL_USER: &str = "hopmq-external";

/// The plugins beside the management API: the mechanism EXTERNAL, and types of exchanges.
pub(super) const PLUGINS: [&str; 3] =
    ["rabbitmq_auth_mechanism_ssl", "rabbitmq_consistent_hash_exchange", "rabbitmq_random_exchange"];

/// Settings that `rabbitmq.conf` has no names for: a quorum queue tries a dead letter again after a second, not after
/// three minutes.
pub(super) const ADVANCED: &str = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 1000}]}].\n";

/// Writes all files, and empties the folders for data and logs.
pub(crate) fn write(node: &Node) -> Result {
    let folder = &node.folder;
    for old in ["data", "log", "home"] {
        shell::remove_folder(&folder.join(old))?;
    }
    tls::write(&folder.join("tls"), EXTERNAL_USER)?;
    shell::write(&folder.join("rabbitmq.conf"), &settings("127.0.0.1", &folder.display().to_string(), &node.ports))?;
    shell::write(&folder.join("definitions.json"), DEFINITIONS)?;
    shell::write(&folder.join("enabled_plugins"), &format!("[rabbitmq_management,{}].\n", PLUGINS.join(",")))?;
    // Replaces the system's rabbitmq-env.conf and advanced.config, which may contain any setting.
    shell::write(&folder.join("empty.conf"), "")?;
    shell::write(&folder.join("advanced.config"), ADVANCED)?;
    shell::write(&folder.join("log/console.log"), "")?;
    let cookie = folder.join("home/.erlang.cookie");
    shell::write(&cookie, &format!("{:016X}{:016X}", random(), random()))?;
    fs::set_permissions(&cookie, Permissions::from_mode(0o400))?;
    let ctl = folder.join("ctl");
    shell::write(&ctl, &ctl_script(node))?;
    fs::set_permissions(&ctl, Permissions::from_mode(0o755))?;
    Ok(())
}

/// An unpredictable number, from the seed of std's hash tables.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The environment of RabbitMQ's server and tools. The caller's own variables for RabbitMQ and Erlang must not reach
/// them.
pub(crate) fn environment(node: &Node) -> Vec<(&'static str, String)> {
    let at = |name: &str| node.folder.join(name).display().to_string();
    vec![
        ("HOME", at("home")),
        ("LANG", "C.UTF-8".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("PATH", std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into())),
        ("ERL_EPMD_PORT", node.ports.epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODENAME", node.name.clone()),
        ("RABBITMQ_DIST_PORT", node.ports.distribution.to_string()),
        // A tool listens for Erlang's distribution too. Its default is a fixed port range, which clones would share.
        ("RABBITMQ_CTL_DIST_PORT_MIN", "0".into()),
        ("RABBITMQ_CTL_DIST_PORT_MAX", "0".into()),
        ("RABBITMQ_CONF_ENV_FILE", at("empty.conf")),
        ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", at("data")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", at("data/config")),
        ("RABBITMQ_SCHEMA_DIR", at("data/schema")),
        ("RABBITMQ_LOG_BASE", at("log")),
        ("RABBITMQ_PID_FILE", at("data/pid")),
    ]
}

fn ctl_script(node: &Node) -> String {
    let mut script = String::from("#!/bin/sh\n# Runs rabbitmqctl for this folder's broker.\nexec env -i \\\n");
    for (name, value) in environment(node) {
        script += &format!("    {name}={} \\\n", quoted(&value));
    }
    script + &format!("    {} \"$@\"\n", quoted(&node.scripts.join("rabbitmqctl").display().to_string()))
}

pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// RabbitMQ's settings for a broker that listens on `address` and has definitions and certificates in `folder`.
pub(super) fn settings(address: &str, folder: &str, ports: &Ports) -> String {
    format!(
        "\
listeners.tcp.1 = {address}:{amqp}
listeners.ssl.1 = {address}:{amqps}
ssl_options.cacertfile = {folder}/tls/ca.pem
ssl_options.certfile = {folder}/tls/server.pem
ssl_options.keyfile = {folder}/tls/server.key
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
management.tcp.ip = {address}
management.tcp.port = {http}
load_definitions = {folder}/definitions.json
log.file = rabbit.log
log.file.level = info
log.console = false
vm_memory_high_watermark.absolute = 4GB
disk_free_limit.absolute = 50MB
collect_statistics_interval = 1000
",
        amqp = ports.amqp,
        amqps = ports.amqps,
        http = ports.http,
    )
}

/// Users, virtual hosts and permissions. `hopmq-limited` may only use names that begin with `hopmq-limited-`.
pub(super) const DEFINITIONS: &str = r#"{
  "vhosts": [{ "name": "/" }, { "name": "hopmq-other" }],
  "users": [
    { "name": "guest", "password": "guest", "tags": "administrator" },
    { "name": "hopmq-external", "password_hash": "", "tags": "" },
    { "name": "hopmq-limited", "password": "limited", "tags": "" }
  ],
  "permissions": [
    { "user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" },
    { "user": "guest", "vhost": "hopmq-other", "configure": ".*", "write": ".*", "read": ".*" },
    { "user": "hopmq-external", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" },
    { "user": "hopmq-limited", "vhost": "/",
      "configure": "^hopmq-limited-", "write": "^hopmq-limited-", "read": "^hopmq-limited-" }
  ]
}
"#;

#[cfg(test)]
mod tests {
    use super::{quoted, random};

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
