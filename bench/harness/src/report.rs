//! The line of JSON that a runner prints.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::Duration;

use crate::args::Workload;
use crate::pace::Latencies;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The client does not support the workload. This is a result, not a failure.
#[derive(Debug)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Unsupported {}

/// Returns [`Unsupported`] with the reason.
pub fn unsupported<T>(reason: &'static str) -> Result<T> {
    Err(Unsupported(reason).into())
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    pub messages: u64,
    pub seconds: f64,
    pub cpu_user: Duration,
    pub cpu_system: Duration,
    pub peak_rss_kib: u64,
    pub allocations: Option<u64>,
    /// The heap of a connection, in bytes.
    pub heap_bytes: Option<u64>,
    /// The number of messages that the peer counted.
    pub seen: Option<u64>,
    pub percentiles: Option<[Duration; 3]>,
}

impl Outcome {
    pub fn seen(mut self, messages: impl Into<u64>) -> Self {
        self.seen = Some(messages.into());
        self
    }

    pub fn latencies(mut self, latencies: Latencies) -> Self {
        self.percentiles = latencies.percentiles();
        self
    }

    /// Sets the heap of each of `n` connections, from the heap in use before they were opened.
    pub fn heap_each(mut self, before: Option<u64>, n: u64) -> Self {
        self.heap_bytes = before.zip(crate::heap_bytes()).map(|(before, now)| now.saturating_sub(before) / n.max(1));
        self
    }

    pub(crate) fn line(&self, client: &str, mode: &str, workload: Workload) -> String {
        let mut line = head(client, mode, workload);
        let [p50, p99, p999] = self.percentiles.map_or([None; 3], |all| all.map(|d| Some(d.as_secs_f64() * 1e6)));
        let _ = write!(
            line,
            r#","messages":{},"seconds":{:.6},"cpu_user_us":{},"cpu_sys_us":{},"peak_rss_kib":{}"#,
            self.messages,
            self.seconds,
            self.cpu_user.as_micros(),
            self.cpu_system.as_micros(),
            self.peak_rss_kib,
        );
        for (name, value) in [("allocations", self.allocations), ("heap_bytes", self.heap_bytes), ("seen", self.seen)] {
            let _ = write!(line, r#","{name}":{}"#, or_null(value));
        }
        for (name, value) in [("p50_us", p50), ("p99_us", p99), ("p999_us", p999)] {
            let _ = write!(line, r#","{name}":{}"#, or_null(value.map(|v| format!("{v:.1}"))));
        }
        line + "}"
    }
}

impl Unsupported {
    pub(crate) fn line(&self, client: &str, mode: &str, workload: Workload) -> String {
        format!("{},\"unsupported\":\"{}\"}}", head(client, mode, workload), self.0)
    }
}

fn head(client: &str, mode: &str, workload: Workload) -> String {
    format!(r#"{{"client":"{client}","mode":"{mode}","workload":"{workload}""#)
}

fn or_null(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "null".into(), |value| value.to_string())
}
