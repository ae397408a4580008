//! Finds RabbitMQ on this machine. Installs Debian's package where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Result};

/// The folders of RabbitMQ's own scripts: Debian and Ubuntu, Homebrew on Apple silicon and on Intel. The wrappers in
/// `/usr/sbin` are of no use: they require a system user and the system's folders.
const HOMES: [&str; 3] = ["/usr/lib/rabbitmq/lib", "/opt/homebrew/opt/rabbitmq", "/usr/local/opt/rabbitmq"];

const BY_HAND: &str = "install it by hand: `apt-get install rabbitmq-server` on Debian or Ubuntu, `brew install \
                       rabbitmq` on macOS; or name the folder of its scripts in HOPMQ_RABBITMQ_SBIN";

/// The folder of RabbitMQ's scripts (`rabbitmq-server`, `rabbitmqctl`). Installs RabbitMQ if necessary.
pub(crate) fn scripts() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HOPMQ_RABBITMQ_SBIN").map(PathBuf::from) {
        return match has_scripts(&folder) {
            true => Ok(folder),
            false => Err(format!(
                "HOPMQ_RABBITMQ_SBIN is {}, which has no rabbitmq-server and rabbitmqctl",
                folder.display()
            )
            .into()),
        };
    }
    if let Some(folder) = find() {
        return Ok(folder);
    }
    install()?;
    find().ok_or_else(|| {
        format!("the package rabbitmq-server is installed, but its scripts were not found; {BY_HAND}").into()
    })
}

/// The newest RabbitMQ on this machine.
fn find() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = HOMES
        .iter()
        .map(Path::new)
        .flat_map(|home| {
            let versions = home.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
            versions.chain([home.to_path_buf()]).map(|folder| folder.join("sbin"))
        })
        .filter(|folder| has_scripts(folder))
        .collect();
    folders.sort();
    folders.pop()
}

fn has_scripts(folder: &Path) -> bool {
    folder.join("rabbitmq-server").is_file() && folder.join("rabbitmqctl").is_file()
}

fn install() -> Result {
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Err(format!("RabbitMQ is not installed, and neither is apt-get; {BY_HAND}").into());
    }
    println!("RabbitMQ is not installed: installing Debian's package");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "rabbitmq-server"]] {
        apt_get(arguments).map_err(|error| format!("{error}\nRabbitMQ is not installed; {BY_HAND}"))?;
    }
    Ok(())
}

/// Runs apt-get as root, or with sudo if that needs no password. RUNLEVEL=1 stops the package from starting a service
/// where there is no systemd. A service that starts anyway does no harm: nothing here connects to it.
pub(crate) fn apt_get(arguments: &[&str]) -> Result {
    let root = shell::output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "--quiet"]);
    shell::run(command.args(arguments))
}
