//! The machine, the date and the versions of a measurement.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::shell;

/// The conditions of a measurement, without which its figures mean nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// `YYYY-MM-DD`, UTC.
    pub(crate) date: String,
    /// Clients and their versions.
    pub(crate) versions: Vec<(String, String)>,
}

const CLIENTS: [&str; 6] = ["hopmq", "hopmq-blocking", "amqp-client", "amiquip", "amqprs", "lapin"];

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.strip_prefix("model name")?.to_owned()));
        let cpu = model.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
        let rustc = shell::output(shell::program("rustc").arg("--version")).unwrap_or_default();
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: rustc.split_whitespace().nth(1).unwrap_or("unknown").to_owned(),
            date: date(days),
            versions: versions(),
        }
    }

    /// The conditions in one sentence.
    pub(crate) fn sentence(&self) -> String {
        let versions: Vec<_> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}, {} cores, Linux {}, rustc {}, {}; {}",
            self.cpu,
            self.cores,
            self.kernel,
            self.rustc,
            self.date,
            versions.join(", ")
        )
    }

    pub(crate) fn json(&self) -> String {
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("\"{name}\": \"{version}\"")).collect();
        format!(
            r#"{{"cpu": "{}", "cores": {}, "kernel": "{}", "rustc": "{}", "date": "{}", "versions": {{{}}}}}"#,
            self.cpu,
            self.cores,
            self.kernel,
            self.rustc,
            self.date,
            versions.join(", ")
        )
    }
}

fn versions() -> Vec<(String, String)> {
    let of = |name: &str| Some((name.to_owned(), version(name)?));
    let mut versions: Vec<_> = CLIENTS.into_iter().filter_map(of).collect();
    let librabbitmq = shell::output(shell::program("pkg-config").args(["--modversion", "librabbitmq"]));
    versions.extend(librabbitmq.map(|version| ("librabbitmq".to_owned(), version.trim().to_owned())));
    versions
}

/// The version of a crate in `bench/Cargo.lock`.
pub(super) fn version(name: &str) -> Option<String> {
    let lock = shell::read(&shell::root().join("bench/Cargo.lock")).ok()?;
    let rest = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
    Some(rest.split('"').next()?.to_owned())
}

/// The date that many days after 1970-01-01, in the proleptic Gregorian calendar.
fn date(days: u64) -> String {
    // Years begin in March here, so that the leap day is the last of a year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month < 3))
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_since_1970_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_778), "2026-11-21");
    }
}
