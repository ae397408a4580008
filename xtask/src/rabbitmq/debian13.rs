//! RabbitMQ 4.0 from the packages of Debian 13, for machines with another Debian or Ubuntu.
//!
//! Its Erlang needs a newer C library than Debian 12 has. So the packages and all that they depend on are unpacked into
//! a folder, and each program enters that folder as its root. It shares `/tmp`, `/proc`, `/dev`, `/sys` and the
//! project's folder with the machine. Nothing is installed, and no script of a package runs.
//!
//! Without root, the programs enter a user namespace, where the user has the right to change the root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::files::quoted;
use super::install;
use super::lock::Lock;
use crate::shell::{self, Result};

const SUITE: &str = "trixie";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// RabbitMQ, and what its scripts call without depending on it: a package may assume that a system has these.
const PACKAGES: [&str; 13] = [
    "rabbitmq-server",
    "base-files",
    "bash",
    "dash",
    "coreutils",
    "sed",
    "grep",
    "mawk",
    "findutils",
    "util-linux",
    "procps",
    "hostname",
    "libc-bin",
];
/// The programs that xtask runs. The port mapper is among them for machines that have no Erlang.
const PROGRAMS: [&str; 3] = ["rabbitmq-server", "rabbitmqctl", "epmd"];
/// How long another process may take to download.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1800);

/// The folder of the scripts that run RabbitMQ 4.0. Downloads the packages into `folder` at the first call.
pub(super) fn scripts(folder: &Path) -> Result<PathBuf> {
    for program in ["apt-get", "dpkg", "unshare", "chroot"] {
        if find(program).is_none() {
            return Err(format!("there is no {program}: this needs Linux with Debian's tools").into());
        }
    }
    let _lock = Lock::take(folder, LOCK_TIMEOUT)?;
    let root = folder.join("root");
    let enter = folder.join("enter");
    script(&enter, &enter_script(&root, is_root()?))?;
    if !root.is_dir() {
        may_change_root()?;
        unpack(folder, &root)?;
    }
    shell::output(Command::new(&enter).arg("true")).map_err(|error| format!("cannot enter {error}"))?;
    let sbin = folder.join("sbin");
    let home = root.join("usr/lib/rabbitmq/lib");
    let versions = fs::read_dir(&home).map_err(|error| format!("cannot read {}: {error}", home.display()))?;
    let version = versions.flatten().next().ok_or_else(|| format!("{} is empty", home.display()))?;
    let version = version.file_name().to_string_lossy().into_owned();
    for program in PROGRAMS {
        let inside = match program {
            "epmd" => "/usr/bin/epmd".to_owned(),
            script => format!("/usr/lib/rabbitmq/lib/{version}/sbin/{script}"),
        };
        let enter = quoted(&enter.display().to_string());
        script(&sbin.join(program), &format!("#!/bin/sh\nexec {enter} {inside} \"$@\"\n"))?;
    }
    Ok(sbin)
}

/// Downloads the packages, and unpacks them into a folder that becomes `root` when it is whole.
fn unpack(folder: &Path, root: &Path) -> Result {
    println!("RabbitMQ 4.0 is not here: downloading Debian 13's packages (70 MB) into {}", folder.display());
    let apt = folder.join("apt");
    let part = folder.join("root.part");
    shell::remove_folder(&apt)?;
    shell::remove_folder(&part)?;
    if !Path::new(KEYS).is_file() {
        install::apt_get(&["install", "--yes", "--no-install-recommends", "debian-archive-keyring"])?;
    }
    write_apt(&apt)?;
    for arguments in [&["update"][..], &["install", "--yes", "--download-only"]] {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", apt.join("apt.conf")).arg("-qq").args(arguments);
        if arguments[0] == "install" {
            command.args(PACKAGES);
        }
        shell::output(&mut command)?;
    }
    let archives = apt.join("archives");
    let mut packages: Vec<PathBuf> = fs::read_dir(&archives)?.flatten().map(|entry| entry.path()).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    // The base files first: they make /bin and /lib links into /usr, through which other packages unpack.
    packages
        .sort_by_key(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-files_")));
    for package in &packages {
        shell::output(Command::new("dpkg").arg("--extract").arg(package).arg(&part))?;
    }
    for name in ["passwd", "group", "hosts"] {
        fs::copy(Path::new("/etc").join(name), part.join("etc").join(name))?;
    }
    fs::rename(&part, root)?;
    shell::remove_folder(&apt)
}

/// Writes the settings of an apt of our own, which knows Debian 13 only and no installed package.
fn write_apt(folder: &Path) -> Result {
    for name in ["etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "state/lists/partial", "archives/partial"]
    {
        fs::create_dir_all(folder.join(name))?;
    }
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let sources: String = sources.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let mirror = mirror(&sources).unwrap_or(MIRROR);
    let source = format!("Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYS}\n");
    shell::write(&folder.join("etc/sources.list.d/debian.sources"), &source)?;
    shell::write(&folder.join("status"), "")?;
    let at = folder.display();
    let mut settings = format!(
        "Dir::Etc \"{at}/etc\";\nDir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\n\
         Dir::Cache \"{at}\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n\
         APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n"
    );
    // The machine's proxy, and whatever else it needs to reach a mirror.
    let machine = shell::output(Command::new("apt-config").args(["dump", "Acquire"]))?;
    settings.extend(machine.lines().filter(|line| line.starts_with("Acquire::")).map(|line| format!("{line}\n")));
    settings += "Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n";
    shell::write(&folder.join("apt.conf"), &settings)
}

/// The mirror of Debian that the machine's own list of sources names.
fn mirror(sources: &str) -> Option<&str> {
    let lines = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
}

/// A script that runs a program in the changed root. The mounts belong to that program alone and end with it.
/// `HOPMQ_ARGV0` is the name of the program in the list of processes.
fn enter_script(root: &Path, is_root: bool) -> String {
    let user = if is_root { "" } else { "--map-root-user " };
    let root = quoted(&root.display().to_string());
    let project = quoted(&shell::root().display().to_string());
    format!(
        r#"#!/bin/sh
# enter PROGRAM ARGUMENT...: runs a program of Debian 13's packages, with that folder as its root.
PATH="$PATH:/usr/sbin:/sbin"
exec unshare {user}--mount --propagation private sh -c '
    root=$1 project=$2
    shift 2
    for folder in /tmp /proc /dev /sys "$project"; do
        mkdir -p "$root$folder" && mount --rbind "$folder" "$root$folder" || exit 1
    done
    folder=$PWD
    PATH=/usr/sbin:/usr/bin:/sbin:/bin exec chroot "$root" bash -c "
        cd \"\$0\" || cd /
        exec -a \"\${{HOPMQ_ARGV0:-\$1}}\" \"\$@\"" "$folder" "$@"
' enter {root} {project} "$@"
"#
    )
}

/// Writes a script that can be run, unless it is there already: another process may be running it.
fn script(path: &Path, text: &str) -> Result {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    shell::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// Checks that this machine lets us mount and change the root, before a download.
fn may_change_root() -> Result {
    let mut command = Command::new("unshare");
    if !is_root()? {
        command.arg("--map-root-user");
    }
    let probe = command.args(["--mount", "--propagation", "private", "true"]);
    shell::output(probe).map(drop).map_err(|error| {
        format!("this process may not change its root: run it as root, or permit user namespaces ({error})").into()
    })
}

fn is_root() -> Result<bool> {
    Ok(shell::output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// The path of a program. A user's search path may lack the system's folders.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_machine() {
        let sources = "Types: deb\n# http://snapshot.debian.org/archive/debian\nURIs: https://mirror.example/debian/\n";
        assert_eq!(mirror(sources), Some("https://mirror.example/debian/"));
        let list = "deb [arch=amd64] http://ftp.example/debian bookworm main\n";
        assert_eq!(mirror(list), Some("http://ftp.example/debian"));
        assert_eq!(mirror("deb http://archive.ubuntu.com/ubuntu noble main\n"), None);
        assert_eq!(mirror("deb http://deb.debian.org/debian-security bookworm-security main\n"), None);
    }

    #[test]
    fn a_program_is_found_or_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-of-hopmq"), None);
    }
}
