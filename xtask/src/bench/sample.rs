//! The output of runners, and the medians of several runs.

/// One run, from the flat line of JSON that a runner prints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) messages: f64,
    pub(crate) seconds: f64,
    /// User and system time, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) peak_rss_kib: f64,
    pub(crate) allocations: Option<f64>,
    pub(crate) heap_bytes: Option<f64>,
    pub(crate) seen: Option<f64>,
    pub(crate) percentiles_us: Option<[f64; 3]>,
    /// Why the client does not support the workload.
    pub(crate) unsupported: Option<String>,
}

impl Sample {
    /// Parses a line of a runner.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if !(line.starts_with('{') && line.ends_with('}')) {
            return None;
        }
        let number = |key: &str| field(line, key).and_then(|value| value.parse::<f64>().ok());
        if let Some(why) = field(line, "unsupported") {
            return Some(Self { unsupported: Some(why.to_owned()), ..Self::default() });
        }
        let percentiles = [number("p50_us"), number("p99_us"), number("p999_us")];
        Some(Self {
            messages: number("messages")?,
            seconds: number("seconds")?,
            cpu_us: number("cpu_user_us")? + number("cpu_sys_us")?,
            peak_rss_kib: number("peak_rss_kib")?,
            allocations: number("allocations"),
            heap_bytes: number("heap_bytes"),
            seen: number("seen"),
            percentiles_us: if let [Some(a), Some(b), Some(c)] = percentiles { Some([a, b, c]) } else { None },
            unsupported: None,
        })
    }

    /// Whether the peer received every message. True where the peer does not count.
    pub(crate) fn arrived(&self) -> bool {
        self.seen.is_none_or(|seen| seen == self.messages)
    }
}

/// The value of `key` in a flat JSON object without escapes, without its quotes.
pub(crate) fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!("\"{key}\":"))?.1.trim_start();
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next().map(str::trim),
    }
}

/// The medians of several runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Messages (round trips, connections) per second.
    pub(crate) rate: f64,
    /// CPU per message, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) peak_rss_kib: f64,
    pub(crate) allocations: Option<f64>,
    pub(crate) heap_bytes: Option<f64>,
    pub(crate) percentiles_us: Option<[f64; 3]>,
    /// Rates of all runs, in ascending order.
    pub(crate) rates: Vec<f64>,
    pub(crate) runs: usize,
    /// Runs that hung, failed, or lost messages.
    pub(crate) failures: usize,
    pub(crate) unsupported: Option<String>,
}

impl Figures {
    pub(crate) fn of(samples: &[Sample], failures: usize) -> Self {
        if let Some(why) = samples.iter().find_map(|sample| sample.unsupported.clone()) {
            return Self { unsupported: Some(why), ..Self::default() };
        }
        let all = |figure: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(figure).collect());
        let percentile = |at: usize| all(&|sample| sample.percentiles_us.map(|all| all[at]));
        let mut rates: Vec<f64> = samples.iter().map(|sample| sample.messages / sample.seconds).collect();
        rates.sort_by(f64::total_cmp);
        Self {
            rate: median(rates.clone()).unwrap_or_default(),
            cpu_us: all(&|sample| Some(sample.cpu_us / sample.messages)).unwrap_or_default(),
            peak_rss_kib: all(&|sample| Some(sample.peak_rss_kib)).unwrap_or_default(),
            allocations: all(&|sample| Some(sample.allocations? / sample.messages)),
            heap_bytes: all(&|sample| sample.heap_bytes),
            percentiles_us: percentile(0).zip(percentile(1)).zip(percentile(2)).map(|((a, b), c)| [a, b, c]),
            rates,
            runs: samples.len(),
            failures,
            unsupported: None,
        }
    }
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"client":"bare","mode":"","workload":"latency","messages":10,"seconds":0.5,"cpu_user_us":20,
        "cpu_sys_us":30,"peak_rss_kib":2048,"allocations":null,"heap_bytes":null,"seen":10,
        "p50_us":4.5,"p99_us":33.2,"p999_us":96.0}"#;

    #[test]
    fn a_runners_line_is_parsed() {
        let sample = Sample::parse(LINE).expect("the line is complete");
        assert_eq!((sample.messages, sample.cpu_us, sample.allocations), (10.0, 50.0, None));
        assert_eq!(sample.percentiles_us, Some([4.5, 33.2, 96.0]));
        assert!(sample.arrived());
        assert_eq!(Sample::parse("a panic"), None);
        let refusal = Sample::parse(r#"{"client":"bare","mode":"","workload":"rpc","unsupported":"one loop"}"#);
        assert_eq!(refusal.and_then(|sample| sample.unsupported).as_deref(), Some("one loop"));
    }

    #[test]
    fn figures_are_the_medians_of_the_runs() {
        let run = |seconds| Sample { messages: 10.0, seconds, cpu_us: 20.0, ..Sample::default() };
        let figures = Figures::of(&[run(1.0), run(5.0), run(2.0)], 1);
        assert_eq!((figures.rate, figures.cpu_us, figures.runs, figures.failures), (5.0, 2.0, 3, 1));
        assert_eq!(median(vec![1.0, 4.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
