//! The option `--memory-limit`: a size, or a share of the memory that the program may use.
//!
//! Owns how the system is asked for that memory: on Linux the least of `MemTotal` and the limits of the control groups
//! that the program runs in, version 2 or 1, so that a container's limit counts. Elsewhere it is not known. It must
//! never know the broker.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::size;

/// The memory that is assumed where it is not known, as in RabbitMQ.
const ASSUMED: u64 = 1 << 30;

/// A memory limit, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryLimit {
    Bytes(u64),
    Percent(u8),
}

/// The memory that the program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    pub(crate) bytes: u64,
    /// Whether the system told it.
    pub(crate) is_known: bool,
}

impl MemoryLimit {
    /// RabbitMQ's `vm_memory_high_watermark` before 4.0.
    pub(crate) const DEFAULT: Self = Self::Percent(40);

    pub(crate) fn bytes(self, available: Available) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => available.bytes / 100 * u64::from(percent),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent)
            }
            None => size::parse(text).ok().filter(|bytes| *bytes > 0).map(Self::Bytes),
        };
        limit.ok_or_else(|| "write 1% to 100% of the memory, or a size such as 500MB, 512MiB or 4GB".to_owned())
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Available {
    /// Asks the system.
    pub(crate) fn of_system() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let machine = machine(root);
        let found = machine.into_iter().chain(group_limits(root)).min();
        Self { bytes: found.unwrap_or(ASSUMED), is_known: found.is_some() }
    }
}

fn machine(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the limits of the control groups of this process, and of those around them.
fn group_limits(root: &Path) -> Vec<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    // Each line is `number:controllers:path`; version 2 has one line, without controllers.
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // Within a container, the path may be that of the host; the container's own group is then the mount itself.
        let mut folder: PathBuf = root.join(mount).join(path.trim_start_matches('/'));
        while folder.starts_with(root.join(mount)) {
            limits.extend(limit(&folder.join(file)));
            if !folder.pop() {
                break;
            }
        }
    }
    limits
}

/// Reads a limit. Without one, version 2 says `max`, and version 1 a number that is larger than any memory.
fn limit(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("hopmq-memory-{name}-{}", std::process::id()));
            for (file, text) in files {
                let file = root.join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn a_limit_is_a_share_or_a_size() {
        let available = Available { bytes: 10_000, is_known: true };
        for (text, bytes) in [("40%", 4_000), ("100 %", 10_000), ("500MB", 500_000_000), ("4 GiB", 4 << 30)] {
            assert_eq!(text.parse::<MemoryLimit>().unwrap().bytes(available), bytes, "{text}");
        }
        for text in ["", "%", "0%", "101%", "0", "0.4", "-1GB", "all"] {
            assert!(text.parse::<MemoryLimit>().is_err(), "{text}");
        }
        assert_eq!(MemoryLimit::DEFAULT.to_string(), "40%");
    }

    #[test]
    fn the_least_limit_of_the_machine_and_its_control_groups_counts() {
        let v2 = [MEMINFO, ("proc/self/cgroup", "0::/a/b\n"), ("sys/fs/cgroup/a/memory.max", "1000000000\n")];
        let inner = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        let root = Root::new("v2", &[&v2[..], &[inner]].concat());
        assert_eq!(Available::below(&root.0), Available { bytes: 1_000_000_000, is_known: true });

        let huge = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let v1 = [MEMINFO, ("proc/self/cgroup", "5:cpu:/c\n4:memory:/c\n"), huge];
        let root = Root::new("v1", &v1);
        assert_eq!(Available::below(&root.0).bytes, 8_000_000 * 1024);
        std::fs::write(root.0.join(huge.0), "512000000\n").unwrap();
        assert_eq!(Available::below(&root.0).bytes, 512_000_000);
    }

    #[test]
    fn a_system_that_does_not_tell_its_memory_counts_as_having_1_gib() {
        let root = Root::new("none", &[("etc/hosts", "")]);
        assert_eq!(Available::below(&root.0), Available { bytes: 1 << 30, is_known: false });
    }
}
