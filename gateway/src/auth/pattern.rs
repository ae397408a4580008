//! Patterns for exchanges, queues and routing keys, with claims in them: `chat.{sub}.*`.
//!
//! `*` matches any characters except dots, and `#` any characters. `{claim}` is replaced by that claim of the token,
//! whose characters are never wildcards.

use std::fmt;

use super::claims::Claims;

/// A pattern whose claims are filled in.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// Any characters except dots.
    Word,
    /// Any characters.
    All,
}

/// Whether the text to match is a name or a binding key, in which `#` is a wildcard itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Name,
    BindingKey,
}

impl Pattern {
    /// Fills in the claims. Returns `None` if the token lacks one of them: the pattern then matches nothing.
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

    /// Whether the pattern matches every text.
    pub(crate) fn is_all(&self) -> bool {
        self.0 == [Piece::All]
    }

    /// Whether the pattern matches the text.
    pub(crate) fn matches(&self, text: &str, kind: Text) -> bool {
        let text = text.as_bytes();
        // The positions in the text up to which the pieces so far can match.
        let mut positions = vec![false; text.len() + 1];
        positions[0] = true;
        for piece in &self.0 {
            let mut next = vec![false; text.len() + 1];
            match piece {
                Piece::Text(piece) => {
                    for at in (0..text.len() + 1).filter(|&at| positions[at]) {
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
                        inside = positions[at] || inside && !stops(text[at - 1]);
                        next[at] = inside;
                    }
                }
            }
            positions = next;
        }
        positions[text.len()]
    }
}

/// Fills the claims into a text. Returns `None` if the token lacks one of them.
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
    /// One wildcard, or text without wildcards.
    Text(&'a str),
    Claim(&'a str),
}

/// A brace of this pattern is not closed, or encloses no name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatternError {
    pattern: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has a brace that is not closed or encloses no name; write {{claim}}", self.pattern)
    }
}

impl std::error::Error for PatternError {}

/// Checks that each brace is closed and encloses a name.
pub(crate) fn check(pattern: &str) -> Result<(), PatternError> {
    parts(pattern).map(drop)
}

fn parts(pattern: &str) -> Result<Vec<Part<'_>>, PatternError> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let size = match first {
            '*' | '#' => 1,
            '{' => {
                let (name, after) = rest[1..]
                    .split_once('}')
                    .filter(|(name, _)| !name.is_empty() && !name.contains('{'))
                    .ok_or_else(|| PatternError { pattern: pattern.to_owned() })?;
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

    fn matches(pattern: &str, text: &str) -> bool {
        let claims = Claims::from(serde_json::json!({"sub": "alice", "odd": "*.#", "n": 7}));
        Pattern::new(pattern, &claims).is_some_and(|pattern| pattern.matches(text, Text::Name))
    }

    #[test]
    fn a_star_stops_at_dots_and_a_hash_does_not() {
        assert!(matches("chat.{sub}.*", "chat.alice.room") && matches("chat.{sub}.*", "chat.alice."));
        for text in ["chat.bob.room", "chat.alice", "chat.alice.room.more", "chat.alice.room.", "xchat.alice.room"] {
            assert!(!matches("chat.{sub}.*", text), "{text}");
        }
        assert!(matches("chat.#", "chat.a.b.c") && matches("#", "") && matches("", "") && !matches("", "x"));
        assert!(matches("a*b*c", "aXbYbZc") && !matches("a*b*c", "aXb.c"));
        assert!(matches("user-{n}", "user-7"));
    }

    #[test]
    fn wildcards_in_claims_are_plain_characters() {
        assert!(matches("chat.{odd}", "chat.*.#") && !matches("chat.{odd}", "chat.a.b"));
    }

    #[test]
    fn a_pattern_with_a_missing_claim_matches_nothing() {
        assert!(!matches("{missing}*", "") && !matches("#{missing}", "x"));
    }

    #[test]
    fn wildcards_of_a_binding_key_stay_within_the_pattern() {
        let pattern = Pattern::new("chat.{sub}.*", &Claims::from(serde_json::json!({"sub": "alice"}))).unwrap();
        let matches = |key| pattern.matches(key, Text::BindingKey);
        assert!(matches("chat.alice.room") && matches("chat.alice.*"));
        assert!(!matches("chat.alice.#") && !matches("chat.*.room") && !matches("#"));
    }

    #[test]
    fn long_patterns_match_in_bounded_time() {
        assert!(!matches(&"#a".repeat(100), &format!("{}b", "a".repeat(254))));
        assert!(!matches(&"*a".repeat(100), &"b".repeat(255)));
    }

    #[test]
    fn unclosed_and_empty_braces_are_refused() {
        assert!(check("a{b}c").is_ok());
        for wrong in ["{", "a{}", "{a{b}}", "a{b"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
