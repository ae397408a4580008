//! Finds RabbitMQ on this machine. Installs Debian's package where there is none, and unpacks a RabbitMQ 4.0 beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian13;
use super::release::Release;
use crate::shell::{self, Result};

/// The folders of RabbitMQ's own scripts: Debian and Ubuntu, Homebrew on Apple silicon and on Intel. The wrappers in
/// `/usr/sbin` are of no use: they require a system user and the system's folders.
const HOMES: [&str; 3] = ["/usr/lib/rabbitmq/lib", "/opt/homebrew/opt/rabbitmq", "/usr/local/opt/rabbitmq"];

const BY_HAND: &str = "install it by hand: `apt-get install rabbitmq-server` on Debian or Ubuntu, `brew install \
                       rabbitmq` on macOS; or name the folder of its scripts in HOPMQ_RABBITMQ_SBIN";

const BY_HAND_4: &str = "name the folder of RabbitMQ 4.0's scripts in HOPMQ_RABBITMQ4_SBIN";

/// The folder of RabbitMQ's scripts (`rabbitmq-server`, `rabbitmqctl`). Installs RabbitMQ if necessary.
pub(super) fn scripts(release: Release) -> Result<PathBuf> {
    let variable = match release {
        Release::Installed => "HOPMQ_RABBITMQ_SBIN",
        Release::V4_0 => "HOPMQ_RABBITMQ4_SBIN",
    };
    if let Some(folder) = std::env::var_os(variable).map(PathBuf::from) {
        return match has_scripts(&folder) {
            true => Ok(folder),
            false => {
                Err(format!("{variable} is {}, which has no rabbitmq-server and rabbitmqctl", folder.display()).into())
            }
        };
    }
    match release {
        Release::Installed => installed(),
        Release::V4_0 => match find().filter(|folder| is_4_0(folder)) {
            Some(folder) => Ok(folder),
            None => debian13::scripts(&release.folder().join("debian13"))
                .map_err(|error| format!("RabbitMQ 4.0 can't be had here: {error}; {BY_HAND_4}").into()),
        },
    }
}

/// Whether the RabbitMQ of this machine is 4.0 itself, as on Debian 13.
pub(crate) fn installed_is_4_0() -> bool {
    scripts(Release::Installed).is_ok_and(|folder| is_4_0(&folder))
}

/// Whether a folder of scripts belongs to a RabbitMQ 4.0, by the name of its folder: `rabbitmq_server-4.0.5/sbin`, or
/// Homebrew's `rabbitmq/4.0.5/sbin`.
fn is_4_0(scripts: &Path) -> bool {
    let folder = scripts.canonicalize().unwrap_or_else(|_| scripts.to_path_buf());
    let name = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    name.trim_start_matches("rabbitmq_server-").starts_with("4.0.")
}

/// The RabbitMQ of this machine. Installs Debian's package if there is none.
fn installed() -> Result<PathBuf> {
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

/// Installs a Debian package unless `is_there` already.
pub(crate) fn provide(what: &str, package: &str, by_hand: &str, is_there: impl Fn() -> bool) -> Result {
    if is_there() {
        return Ok(());
    }
    println!("{what} is not installed: installing Debian's package {package}");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", package]] {
        apt_get(arguments).map_err(|error| format!("{what} is not installed: {by_hand} ({error})"))?;
    }
    if is_there() { Ok(()) } else { Err(format!("{package} is installed, but {what} can't be used: {by_hand}").into()) }
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

#[cfg(test)]
mod tests {
    use super::is_4_0;

    #[test]
    fn a_folder_of_scripts_names_its_release() {
        for (folder, expected) in [
            ("/usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/sbin", true),
            ("/opt/homebrew/Cellar/rabbitmq/4.0.9/sbin", true),
            ("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin", false),
            ("/opt/homebrew/Cellar/rabbitmq/4.3.0/sbin", false),
            ("/sbin", false),
        ] {
            assert_eq!(is_4_0(folder.as_ref()), expected, "{folder}");
        }
    }
}
