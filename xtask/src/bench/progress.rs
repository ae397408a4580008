//! A progress bar with the time left, or plain lines where the output is no terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

pub(crate) struct Progress {
    total: usize,
    done: usize,
    begun: Instant,
    is_terminal: bool,
    /// The row of the last plain line.
    row: String,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, begun: Instant::now(), is_terminal: std::io::stderr().is_terminal(), row: String::new() }
    }

    /// Announces the next step.
    pub(crate) fn step(&mut self, row: &str, contender: &str) {
        if self.is_terminal {
            let width = 24;
            let full = width * self.done / self.total.max(1);
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(width - full));
            eprint!("\r\x1b[2K{bar} {}/{} {}  {row}: {contender}", self.done, self.total, self.left());
            let _cannot_flush = std::io::stderr().flush();
        } else if self.row != row {
            row.clone_into(&mut self.row);
            eprintln!("{}/{} {} {row}", self.done, self.total, self.left());
        }
        self.done += 1;
    }

    pub(crate) fn end(self) {
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
        eprintln!("{} runs in {}", self.done, minutes(self.begun.elapsed().as_secs()));
    }

    fn left(&self) -> String {
        if self.done < 3 {
            return "…".to_owned();
        }
        let each = self.begun.elapsed().as_secs_f64() / self.done as f64;
        format!("{} left", minutes((each * (self.total - self.done) as f64) as u64))
    }
}

fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
