//! Literals that are read at compile time: texts, numbers, times.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Result};

/// Returns the literal of an expression, also behind a `-`.
fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// Returns the text, if the expression is a literal one.
pub(crate) fn text(value: &Expr) -> Option<&LitStr> {
    match literal(value)? {
        Lit::Str(text) => Some(text),
        _ => None,
    }
}

/// Returns the boolean, if the expression is a literal one.
pub(crate) fn boolean(value: &Expr) -> Option<bool> {
    match literal(value)? {
        Lit::Bool(boolean) => Some(boolean.value),
        _ => None,
    }
}

/// Returns the number, if the expression is a literal one.
pub(crate) fn number(value: &Expr) -> Option<u64> {
    match literal(value)? {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    }
}

/// Refuses a literal name that the broker would refuse.
pub(crate) fn name(value: &Expr, what: &str) -> Result<()> {
    let Some(text) = text(value) else { return Ok(()) };
    match text.value().len() {
        0 => Err(Error::new(text.span(), format!("{what} has no name; retries and dead letters need one"))),
        1..=255 => Ok(()),
        length => Err(Error::new(text.span(), format!("{what} has {length} bytes; a name has at most 255"))),
    }
}

/// A time: the expression of a `Duration`, and its value if a literal tells it.
pub(crate) struct Time {
    pub(crate) tokens: TokenStream,
    pub(crate) value: Option<Duration>,
}

impl Time {
    /// Reads `"1m30s"`, or takes the expression as a `Duration`.
    pub(crate) fn read(value: &Expr) -> Result<Self> {
        let Some(lit) = literal(value) else { return Ok(Self { tokens: quote!(#value), value: None }) };
        let text = match lit {
            Lit::Str(text) => text.value(),
            _ => {
                return Err(Error::new_spanned(
                    value,
                    "a time is a text with a unit: \"500ms\", \"1s\", \"5m\", \"2h\"",
                ));
            }
        };
        let time = duration(&text).map_err(|why| Error::new_spanned(value, why))?;
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        Ok(Self { tokens: quote!(::core::time::Duration::new(#seconds, #nanos)), value: Some(time) })
    }
}

/// Reads numbers with the units `ms`, `s`, `m`, `h`, `d`, one after the other.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no time: write a number and a unit, as in \"500ms\", \"1s\", \"5m\", \"1h30m\"");
    let mut rest = text.trim();
    let mut all = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        rest = rest[letters..].trim_start();
        let part = number.checked_mul(millis).map(Duration::from_millis);
        all = part.and_then(|part| all.checked_add(part)).ok_or_else(|| format!("{text:?} is too long"))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let millis = |text| duration(text).unwrap().as_millis();
        assert_eq!([millis("500ms"), millis("1s"), millis("5m"), millis("2h")], [500, 1000, 300_000, 7_200_000]);
        assert_eq!(
            [millis("1m30s"), millis("1 h 5 min"), millis("1d"), millis("0s")],
            [90_000, 3_900_000, 86_400_000, 0]
        );
    }

    #[test]
    fn a_wrong_time_is_refused_with_an_example() {
        for text in ["", "1", "s", "1x", "-1s", "1.5s", "1s2", "soon"] {
            assert!(duration(text).unwrap_err().contains("\"500ms\""), "{text}");
        }
        assert!(duration("99999999999999999d").unwrap_err().contains("too long"));
    }
}
