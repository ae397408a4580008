//! Patterns for names of exchanges and queues and for routing keys, with claims in them: `chat.{sub}.*`.
//!
//! `*` stands for any characters but dots, `#` for any characters, `{claim}` for what the token says, which is never a
//! wildcard itself.

use super::claims::Claims;

/// A pattern with its claims filled in.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// Any characters but dots.
    Word,
    /// Any characters.
    All,
}

/// Whether the text that is held against a pattern is a name or a binding key, in which `#` stands for much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Name,
    BindingKey,
}

impl Pattern {
    /// Fills in the claims. `None` if the token lacks one of them: then the pattern fits nothing.
    pub(crate) fn new(pattern: &str, claims: &Claims) -> Option<Self> {
        let mut pieces = Vec::new();
        for part in parts(pattern).ok()? {
            let piece = match part {
                Part::Text("*") => Piece::Word,
                Part::Text("#") => Piece::All,
                Part::Text(text) => Piece::Text(text.to_owned()),
                Part::Claim(name) => Piece::Text(claims.text(name)?),
            };
            pieces.push(piece);
        }
        Some(Self(pieces))
    }

    /// Everything fits.
    pub(crate) fn is_all(&self) -> bool {
        self.0 == [Piece::All]
    }

    /// Whether `text` fits.
    pub(crate) fn fits(&self, text: &str, kind: Text) -> bool {
        let text = text.as_bytes();
        // Where in the text one can be after the pieces so far.
        let mut places = vec![false; text.len() + 1];
        places[0] = true;
        for piece in &self.0 {
            let mut next = vec![false; text.len() + 1];
            match piece {
                Piece::Text(piece) => {
                    for at in (0..text.len() + 1).filter(|&at| places[at]) {
                        if text[at..].starts_with(piece.as_bytes()) {
                            next[at + piece.len()] = true;
                        }
                    }
                }
                Piece::Word | Piece::All => {
                    let stops = |byte: u8| match piece {
                        Piece::Word => byte == b'.' || kind == Text::BindingKey && byte == b'#',
                        _ => false,
                    };
                    let mut inside = false;
                    for at in 0..text.len() + 1 {
                        inside = places[at] || inside && !stops(text[at - 1]);
                        next[at] = inside;
                    }
                }
            }
            places = next;
        }
        places[text.len()]
    }
}

/// A text with its claims filled in; `None` if the token lacks one of them.
pub(super) fn fill(template: &str, claims: &Claims) -> Option<String> {
    let mut text = String::new();
    for part in parts(template).ok()? {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Claim(name) => text.push_str(&claims.text(name)?),
        }
    }
    Some(text)
}

enum Part<'a> {
    /// A wildcard by itself, or text without.
    Text(&'a str),
    Claim(&'a str),
}

/// Whether braces are closed and name something; the error says what is wrong.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    parts(pattern).map(drop)
}

fn parts(pattern: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let size = match first {
            '*' | '#' => 1,
            '{' => {
                let (name, after) = rest[1..]
                    .split_once('}')
                    .filter(|(name, _)| !name.is_empty() && !name.contains('{'))
                    .ok_or_else(|| format!("`{pattern}`: a brace opens that no name and brace follow"))?;
                parts.push(Part::Claim(name));
                rest = after;
                continue;
            }
            _ => rest.find(['*', '#', '{']).unwrap_or(rest.len()),
        };
        parts.push(Part::Text(&rest[..size]));
        rest = &rest[size..];
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        let claims = Claims::from(serde_json::json!({"sub": "alice", "odd": "*.#", "n": 7}));
        Pattern::new(pattern, &claims).is_some_and(|pattern| pattern.fits(text, Text::Name))
    }

    #[test]
    fn words_end_at_dots() {
        assert!(fits("chat.{sub}.*", "chat.alice.room") && fits("chat.{sub}.*", "chat.alice."));
        for text in ["chat.bob.room", "chat.alice", "chat.alice.room.more", "chat.alice.room.", "xchat.alice.room"] {
            assert!(!fits("chat.{sub}.*", text), "{text}");
        }
        assert!(fits("chat.#", "chat.a.b.c") && fits("#", "") && fits("", "") && !fits("", "x"));
        assert!(fits("a*b*c", "aXbYbZc") && !fits("a*b*c", "aXb.c"));
        assert!(fits("user-{n}", "user-7"));
    }

    #[test]
    fn claims_are_no_wildcards() {
        assert!(fits("chat.{odd}", "chat.*.#") && !fits("chat.{odd}", "chat.a.b"));
    }

    #[test]
    fn a_claim_that_is_missing_fits_nothing() {
        assert!(!fits("{nobody}*", "") && !fits("#{nobody}", "x"));
    }

    #[test]
    fn a_binding_key_gets_no_more_than_the_pattern() {
        let pattern = Pattern::new("chat.{sub}.*", &Claims::from(serde_json::json!({"sub": "alice"}))).unwrap();
        let fits = |key| pattern.fits(key, Text::BindingKey);
        assert!(fits("chat.alice.room") && fits("chat.alice.*"));
        assert!(!fits("chat.alice.#") && !fits("chat.*.room") && !fits("#"));
    }

    #[test]
    fn long_patterns_take_no_long_time() {
        assert!(!fits(&"#a".repeat(100), &format!("{}b", "a".repeat(254))));
        assert!(!fits(&"*a".repeat(100), &"b".repeat(255)));
    }

    #[test]
    fn braces_are_closed() {
        assert!(check("a{b}c").is_ok());
        for wrong in ["{", "a{}", "{a{b}}", "a{b"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
