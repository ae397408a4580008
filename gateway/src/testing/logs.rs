//! The text log of what a test does.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics in a log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what `act` logs as text, as the program writes it into a file.
pub(crate) fn of(act: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = lines.0.lock().expect("no test panics in a log").clone();
    String::from_utf8(bytes).expect("the log is text")
}

/// Checks that a log is this many lines of bounded length, with nothing that a terminal would follow.
#[track_caller]
pub(crate) fn check(log: &str, lines: usize) {
    assert_eq!(log.lines().count(), lines, "{log}");
    assert!(log.lines().all(|line| line.len() < 2000), "{} bytes", log.len());
    assert!(!log.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{2028}'), "{log:?}");
}

/// A name that would look like another line of a log, turn the text around, and clear a terminal.
pub(crate) const HOSTILE: &str = "a\r\n2030-01-01T00:00:00Z  INFO forged: \"x\" user=admin\u{202e}\u{2028}\u{1b}[2J\0";
