//! Names and times in texts for people, instead of `{:?}`: the code that formats strings and durations for debugging
//! is larger than everything else that formats, which a browser would have to load.

use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use crate::printable::is_hidden;

/// Displays a name in quotes, on one line: quotes, backslashes and hidden characters are escaped.
///
/// ```
/// use hopmq_proto::Quoted;
///
/// assert_eq!(format!("no queue {}", Quoted("a\n\"b\"")), r#"no queue "a\n\"b\"""#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(character)?;
                }
                _ if is_hidden(character) => character.escape_default().try_for_each(|part| f.write_char(part))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

/// Displays a time in seconds, or in milliseconds if it is a whole number of them and below a second.
///
/// ```
/// use std::time::Duration;
///
/// use hopmq_proto::Elapsed;
///
/// let shown = [10_000, 250, 1_500].map(|millis| Elapsed(Duration::from_millis(millis)).to_string());
/// assert_eq!(shown, ["10s", "250ms", "1.5s"]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, mut fraction) = (self.0.as_secs(), self.0.subsec_nanos());
        if fraction == 0 {
            return write!(f, "{seconds}s");
        }
        if seconds == 0 && fraction % 1_000_000 == 0 {
            return write!(f, "{}ms", fraction / 1_000_000);
        }
        let mut digits = 9;
        while fraction % 10 == 0 {
            (fraction, digits) = (fraction / 10, digits - 1);
        }
        write!(f, "{seconds}.{fraction:0digits$}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_look_as_they_do_when_debugged() {
        for name in ["", "orders", "a\tb\r\n", "\"ä\" \\ €", "\u{1b}[2J\u{202e}"] {
            assert_eq!(Quoted(name).to_string(), format!("{name:?}"));
        }
        for millis in [1, 999, 1000, 1001, 59_990, 3_600_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(Elapsed(time).to_string(), format!("{time:?}"));
        }
        assert_eq!(Elapsed(Duration::new(2, 1)).to_string(), "2.000000001s");
        assert_eq!(Elapsed(Duration::from_micros(1500)).to_string(), "0.0015s");
    }
}
