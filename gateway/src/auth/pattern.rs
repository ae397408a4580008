//! Patterns for exchanges, queues and routing keys, with claims in them: `chat.{sub}.*`.
//!
//! `*` matches any characters except dots, and `#` any characters; several of them in a row are one. `{claim}` is
//! replaced by that claim of the token, whose characters are never wildcards.
//!
//! A binding key is a pattern itself: RabbitMQ's `*` is one word, and its `#` any number of words, none too. It is
//! allowed if every routing key that it matches is within the pattern. There, a `#` of the pattern that is a word of
//! its own stands for no word too, as in RabbitMQ: `room.#` includes `room`. Any other `#` of the pattern that matches
//! a `#` of the binding key also matches the dot beside it, which RabbitMQ takes away with the word.
//!
//! Matching takes one pass over the text for each piece of the pattern.

use std::fmt;

use super::claims::Claims;

/// The longest claim in a pattern, and the longest name, in bytes: names in AMQP are not longer.
const NAME_MAX: usize = 255;

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

/// What a pattern is for, and what a claim in it may hold therefore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A name of an exchange, a queue, a user or a virtual host.
    Name,
    /// Routing keys: a claim must be one word, and must not be a wildcard of binding keys.
    RoutingKey,
}

/// Whether the text to match is a name or a binding key, in which `#` is a wildcard itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Name,
    BindingKey,
}

/// A claim that cannot be filled in. Does not hold its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnfitClaim {
    pub(crate) name: String,
    pub(crate) flaw: &'static str,
}

impl Pattern {
    /// Fills in the claims. Returns `None` if the token lacks one of them: the pattern then matches nothing.
    ///
    /// # Errors
    /// [`UnfitClaim`] if a claim would be more than plain characters in this place.
    pub(crate) fn new(pattern: &str, claims: &Claims, place: Place) -> Result<Option<Self>, UnfitClaim> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts(pattern).unwrap_or_default() {
            let piece = match part {
                Part::Text("*") => Piece::Word,
                Part::Text("#") => Piece::All,
                Part::Text(text) => Piece::Text(text.to_owned()),
                Part::Claim(name) => match fit(name, claims, place)? {
                    Some(text) => Piece::Text(text),
                    None => return Ok(None),
                },
            };
            match (pieces.last_mut(), &piece) {
                (Some(Piece::All), Piece::All | Piece::Word) | (Some(Piece::Word), Piece::Word) => {}
                (Some(last @ Piece::Word), Piece::All) => *last = Piece::All,
                _ => pieces.push(piece),
            }
        }
        Ok(Some(Self(pieces)))
    }

    /// Whether the pattern matches every text.
    pub(crate) fn is_all(&self) -> bool {
        self.0 == [Piece::All]
    }

    /// Whether the pattern matches the text: a name, or every routing key of a binding key.
    pub(crate) fn matches(&self, text: &str, kind: Text) -> bool {
        let text = text.as_bytes();
        let is_binding = kind == Text::BindingKey;
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
                        Piece::Word => byte == b'.' || is_binding && byte == b'#',
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

/// Returns a claim as the text of a pattern; `None` if the token lacks it.
fn fit(name: &str, claims: &Claims, place: Place) -> Result<Option<String>, UnfitClaim> {
    let Some(text) = claims.text(name) else { return Ok(None) };
    let flaw = if text.len() > NAME_MAX {
        "is longer than 255 bytes"
    } else if text.contains(char::is_control) {
        "holds a control character"
    } else if place == Place::RoutingKey && text.contains(['.', '*', '#']) {
        "holds a dot, '*' or '#', and must be one word of a routing key"
    } else {
        return Ok(Some(text));
    };
    Err(UnfitClaim { name: name.to_owned(), flaw })
}

/// Returns a claim that is shown and counted, such as the subject; `None` if the token lacks it.
pub(super) fn name(claim: &str, claims: &Claims) -> Result<Option<String>, UnfitClaim> {
    fit(claim, claims, Place::Name)
}

/// Fills the claims into a name. Returns `None` if the token lacks one of them.
///
/// # Errors
/// [`UnfitClaim`] if a claim is not part of a name, or the name is too long.
pub(super) fn fill(template: &str, claims: &Claims) -> Result<Option<String>, UnfitClaim> {
    let mut text = String::new();
    for part in parts(template).unwrap_or_default() {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Claim(name) => {
                let Some(claim) = fit(name, claims, Place::Name)? else { return Ok(None) };
                text.push_str(&claim);
                if text.len() > NAME_MAX {
                    let flaw = "makes a name longer than 255 bytes";
                    return Err(UnfitClaim { name: name.to_owned(), flaw });
                }
            }
        }
    }
    Ok(Some(text))
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

    fn pattern(pattern: &str, claims: &Claims) -> Option<Pattern> {
        Pattern::new(pattern, claims, Place::Name).unwrap()
    }

    fn matches(text: &str, name: &str) -> bool {
        let claims = Claims::from(serde_json::json!({"sub": "alice", "odd": "*.#", "n": 7}));
        pattern(text, &claims).is_some_and(|pattern| pattern.matches(name, Text::Name))
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
        let pattern = pattern("chat.{sub}.*", &Claims::from(serde_json::json!({"sub": "alice"}))).unwrap();
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

    #[test]
    fn a_hash_of_a_binding_key_needs_a_hash_of_the_pattern() {
        let allows = |text: &str, key: &str| {
            let claims = Claims::from(serde_json::json!({"sub": "a"}));
            Pattern::new(text, &claims, Place::RoutingKey).unwrap().unwrap().matches(key, Text::BindingKey)
        };
        for (text, key) in [("room.#", "room.#"), ("a#", "a.#"), ("#", "#"), ("*#", "#"), ("{sub}#", "a.#.#")] {
            assert!(allows(text, key), "{text}: {key}");
        }
        for (text, key) in
            [("a.*", "a.#"), ("*", "#"), ("{sub}", "#"), ("a#.b", "a.#"), ("**", "#"), ("a.*.b", "a.#.b")]
        {
            assert!(!allows(text, key), "{text}: {key}");
        }
    }

    /// Whether RabbitMQ's topic exchange routes a key to a binding key.
    fn routes(binding: &[&str], key: &[&str]) -> bool {
        match binding.split_first() {
            None => key.is_empty(),
            Some((&"#", rest)) => (0..=key.len()).any(|skipped| routes(rest, &key[skipped..])),
            Some((&word, rest)) => !key.is_empty() && (word == "*" || word == key[0]) && routes(rest, &key[1..]),
        }
    }

    /// Whether the bearer of the claim may read a routing key. `\0` stands for the claim.
    fn may_read(pattern: &[char], claim: &str, key: &str) -> bool {
        let Some((&first, rest)) = pattern.split_first() else { return key.is_empty() };
        match first {
            '\0' => key.strip_prefix(claim).is_some_and(|left| may_read(rest, claim, left)),
            '*' | '#' => {
                let end = if first == '#' { key.len() } else { key.find('.').unwrap_or(key.len()) };
                (0..=end).any(|skipped| may_read(rest, claim, &key[skipped..]))
            }
            _ => key.strip_prefix(first).is_some_and(|left| may_read(rest, claim, left)),
        }
    }

    /// Returns the pattern with each choice of words `#` left out, together with a dot.
    fn without_words(pattern: &str) -> Vec<String> {
        let words: Vec<&str> = pattern.split('.').collect();
        // Several wildcards in a row are one.
        let is_hash = |word: &str| word.contains('#') && word.chars().all(|c| c == '#' || c == '*');
        let hashes: Vec<usize> = (0..words.len()).filter(|at| is_hash(words[*at])).collect();
        let choices = 0..1_u32 << hashes.len();
        let left_out = |choice: u32, at: usize| {
            hashes.iter().position(|hash| *hash == at).is_some_and(|index| choice >> index & 1 == 1)
        };
        let kept = |choice| (0..words.len()).filter(move |at| !left_out(choice, *at)).map(|at| words[at]);
        choices.map(|choice| kept(choice).collect::<Vec<_>>().join(".")).collect()
    }

    #[test]
    fn a_binding_key_matches_no_routing_key_that_its_bearer_may_not_read() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % below
        };
        let mut keys = vec![String::new()];
        for length in 0..4 {
            let longer: Vec<String> = keys.iter().filter(|key| key.len() == length).cloned().collect();
            keys.extend(longer.iter().flat_map(|key| ["a", "x", "."].map(|end| format!("{key}{end}"))));
        }
        let (mut allowed, mut wild, mut refused) = (0, 0, 0);
        for _ in 0..1_500 {
            let text: String = (0..1 + random(7)).map(|_| ['a', '.', '.', '*', '#', '\0'][random(6)]).collect();
            let claim = ["a", "x", "ax", "#", "*", "a.x", "."][random(7)];
            let claims = Claims::from(serde_json::json!({ "sub": claim }));
            let setting = text.replace('\0', "{sub}");
            let Ok(pattern) = Pattern::new(&setting, &claims, Place::RoutingKey) else {
                assert!(claim.contains(['.', '*', '#']), "{claim}");
                refused += 1;
                continue;
            };
            let pattern = pattern.unwrap();
            let readable: Vec<Vec<char>> = without_words(&text).iter().map(|text| text.chars().collect()).collect();
            // Binding keys near the pattern, and any.
            for _ in 0..20 {
                let binding: String = match random(3) {
                    0 => text.replace('\0', claim),
                    1 => {
                        let changed = |c: char| if random(3) == 0 { ['a', '.', '*', '#'][random(4)] } else { c };
                        text.replace('\0', claim).chars().map(changed).collect()
                    }
                    _ => (0..random(7)).map(|_| ['a', 'x', '.', '*', '#'][random(5)]).collect(),
                };
                if !pattern.matches(&binding, Text::BindingKey) {
                    continue;
                }
                allowed += 1;
                wild += usize::from(binding.split('.').any(|word| word == "#"));
                let words: Vec<&str> = binding.split('.').collect();
                for key in &keys {
                    let is_routed = routes(&words, &key.split('.').collect::<Vec<_>>());
                    assert!(
                        !is_routed || readable.iter().any(|pattern| may_read(pattern, claim, key)),
                        "{setting:?} with {claim:?} allows the binding key {binding:?}, which matches {key:?}"
                    );
                }
            }
        }
        assert!(allowed > 500 && wild > 100 && refused > 100, "{allowed} {wild} {refused}");
    }
}
