//! Texts of peers in logs and answers: names, headers, reasons and errors that quote them.
//!
//! A peer could put a line break into a name, and the rest of its text would look like another line of a log, or an
//! escape sequence, and a terminal would follow it. The subscriber of a log may escape strings, and may not. So such
//! texts are escaped and cut here. It must not be used for what the protocol compares or passes on.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest text that is shown whole, in bytes.
const LENGTH_MAX: usize = 512;

/// Returns a text of a peer for a log, on one line: control characters and those that change how a line is shown are
/// escaped, and a text of more than 512 bytes is cut. Allocates only if there is something to change.
///
/// ```
/// assert_eq!(hopmq_proto::printable("orders\nINFO all is well"), "orders\\nINFO all is well");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.len() <= LENGTH_MAX && !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= LENGTH_MAX {
            let _ = write!(shown, "… ({} bytes)", text.len());
            break;
        }
        match is_hidden(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Whether the character is none of those that are seen on its line: control characters, line and paragraph separators,
/// and marks for the direction of text.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_is_cut() {
        assert!(matches!(printable("chat \"ä\" \\ €"), Cow::Borrowed(_)));
        assert_eq!(printable("a\r\nINFO b\t\0\u{1b}[2J\u{9b}"), "a\\r\\nINFO b\\t\\u{0}\\u{1b}[2J\\u{9b}");
        assert_eq!(printable("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
        for long in ["x".repeat(100_000), "\n".repeat(100_000), "€".repeat(100_000)] {
            let shown = printable(&long);
            assert!(shown.len() < 600 && shown.ends_with(&format!("… ({} bytes)", long.len())), "{shown}");
        }
    }
}
