//! `retry(…)`: the expression of a `Backoff`, and what its constants tell about it.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, Result};

use crate::literal::{self, Time};
use crate::words::unknown;

const NAMES: [&str; 8] = ["first", "factor", "max", "attempts", "jitter", "fixed", "list", "never"];
/// `Backoff`'s own defaults.
const DEFAULT_ATTEMPTS: u64 = 4;
const DEFAULT_MAX: Duration = Duration::from_secs(300);
/// The factor of delays for which none is written.
const DEFAULT_FACTOR: u64 = 2;
const EXAMPLE: &str = "retry(first = \"1s\", factor = 5, max = \"5m\", attempts = 4)";

/// A backoff: its expression, and its longest delay with the place that sets it, if literals tell it.
pub(crate) struct Retry {
    pub(crate) tokens: TokenStream,
    pub(crate) longest: Option<(Duration, Span)>,
}

/// The parts of a backoff, as they are written.
struct Parts<'a>(Vec<(Ident, Option<&'a Expr>)>);

/// Reads the words of a backoff.
pub(crate) fn retry(place: Span, words: &[Expr]) -> Result<Retry> {
    let parts = Parts::read(place, words)?;
    parts.check_numbers()?;
    let kinds: Vec<_> = parts.0.iter().filter(|(name, _)| is_kind(name)).collect();
    let [(kind, value)] = kinds[..] else {
        let text =
            format!("say how long to wait, once: `{EXAMPLE}`, `fixed = \"10s\"`, `list = [\"1s\", \"1m\"]` or `never`");
        return Err(Error::new(kinds.get(1).map_or(place, |(name, _)| name.span()), text));
    };
    let kind = kind.to_string();
    parts.refuse(&kind)?;
    let (mut tokens, longest) = match (kind.as_str(), value) {
        ("first", Some(first)) => parts.exponential(first)?,
        ("fixed", Some(delay)) => {
            let (time, span) = (Time::read(delay)?, delay.span());
            let delay = time.tokens;
            (quote!(::hopmq_app::Backoff::fixed(#delay)), time.value.map(|time| (time, span)))
        }
        ("list", Some(list)) => self::list(list)?,
        ("never", None) => (quote!(::hopmq_app::Backoff::never()), None),
        _ => return Err(Error::new(place, format!("`{kind}` is written as in `{}`", example(&kind)))),
    };
    if let Some(attempts) = parts.value("attempts") {
        tokens.extend(quote!(.attempts(#attempts)));
    }
    if let Some(jitter) = parts.value("jitter") {
        tokens.extend(quote!(.jitter(#jitter)));
    }
    Ok(Retry { tokens, longest })
}

impl<'a> Parts<'a> {
    fn read(place: Span, words: &'a [Expr]) -> Result<Self> {
        let mut parts: Vec<(Ident, Option<&Expr>)> = Vec::new();
        for word in words {
            let (name, value) = match word {
                Expr::Assign(assign) => (&*assign.left, Some(&*assign.right)),
                name => (name, None),
            };
            let Expr::Path(path) = name else {
                return Err(Error::new_spanned(word, format!("write names and values, as in `{EXAMPLE}`")));
            };
            let name = path.path.require_ident()?;
            if !NAMES.iter().any(|known| name == known) {
                return Err(unknown(name, "word of a retry", NAMES.into_iter()));
            }
            if value.is_none() && name != "never" {
                return Err(Error::new(
                    name.span(),
                    format!("`{name}` needs a value: `{}`", example(&name.to_string())),
                ));
            }
            if parts.iter().any(|(earlier, _)| earlier == name) {
                return Err(Error::new(name.span(), format!("`{name}` is there twice: leave out one")));
            }
            parts.push((name.clone(), value));
        }
        if parts.is_empty() {
            return Err(Error::new(place, format!("say how long to wait, as in `{EXAMPLE}`")));
        }
        Ok(Self(parts))
    }

    fn value(&self, name: &str) -> Option<&'a Expr> {
        self.0.iter().find(|(known, _)| known == name)?.1
    }

    /// Refuses literal numbers that mean nothing.
    fn check_numbers(&self) -> Result<()> {
        let number = |name| self.value(name).and_then(|value| Some((value, literal::number(value)?)));
        match number("attempts") {
            Some((value, 0)) => {
                let text =
                    "`attempts` counts the first call too, so it is at least 1; for no second one, write `never`";
                return Err(Error::new_spanned(value, text));
            }
            Some((value, more)) if more > u64::from(u32::MAX) => {
                return Err(Error::new_spanned(value, "at most 4,294,967,295 attempts are possible"));
            }
            _ => {}
        }
        if let Some((value, 0)) = number("factor") {
            return Err(Error::new_spanned(
                value,
                "a factor of 0 would not wait at all: the least is 1, for equal delays",
            ));
        }
        if let Some((value, percent)) = number("jitter")
            && percent > 100
        {
            return Err(Error::new_spanned(value, "`jitter` is the share of a delay in percent: at most 100"));
        }
        Ok(())
    }

    /// Refuses words that the kind of backoff does not have.
    fn refuse(&self, kind: &str) -> Result<()> {
        let has: &[&str] = match kind {
            "first" => &["first", "factor", "max", "attempts", "jitter"],
            "never" => &["never"],
            _ => &["attempts", "jitter"],
        };
        match self.0.iter().find(|(name, _)| name != kind && !has.iter().any(|has| name == has)) {
            Some((name, _)) => {
                Err(Error::new(name.span(), format!("`{name}` says nothing beside `{kind}`: leave it out")))
            }
            None => Ok(()),
        }
    }

    fn exponential(&self, first: &Expr) -> Result<(TokenStream, Option<(Duration, Span)>)> {
        let time = Time::read(first)?;
        let factor = self.value("factor").map_or_else(
            || {
                let factor = u32::try_from(DEFAULT_FACTOR).unwrap_or(u32::MAX);
                quote!(#factor)
            },
            |factor| quote!(#factor),
        );
        let delay = &time.tokens;
        let mut tokens = quote!(::hopmq_app::Backoff::exponential(#delay, #factor));
        let mut max = Some(DEFAULT_MAX);
        let mut place = first.span();
        if let Some(written) = self.value("max") {
            let longest = Time::read(written)?;
            if let (Some(first), Some(max)) = (time.value, longest.value)
                && max < first
            {
                let text = "`max` is shorter than `first`: no delay would be as long as `first` says";
                return Err(Error::new_spanned(written, text));
            }
            (max, place) = (longest.value, written.span());
            let longest = longest.tokens;
            tokens.extend(quote!(.max(#longest)));
        }
        let number = |name, default| self.value(name).map_or(Some(default), literal::number);
        let longest = || {
            let exponent = number("attempts", DEFAULT_ATTEMPTS)?.checked_sub(2)?;
            let factor = number("factor", DEFAULT_FACTOR)?;
            let factor = u32::try_from(exponent).ok().and_then(|exponent| factor.checked_pow(exponent));
            let factor = factor.and_then(|factor| u32::try_from(factor).ok());
            let (first, max) = (time.value?, max?);
            Some((factor.and_then(|factor| first.checked_mul(factor)).map_or(max, |delay| delay.min(max)), place))
        };
        Ok((tokens, longest()))
    }
}

fn list(list: &Expr) -> Result<(TokenStream, Option<(Duration, Span)>)> {
    let Expr::Array(list) = list else {
        return Err(Error::new_spanned(list, format!("write `{}`", example("list"))));
    };
    if list.elems.is_empty() {
        return Err(Error::new_spanned(list, "a list without a delay makes no second attempt: write `never`"));
    }
    let times = list.elems.iter().map(Time::read).collect::<Result<Vec<_>>>()?;
    let longest = times.iter().zip(&list.elems).filter_map(|(time, place)| Some((time.value?, place.span())));
    let longest = longest.max_by_key(|(time, _)| *time);
    let times = times.iter().map(|time| &time.tokens);
    Ok((quote!(::hopmq_app::Backoff::list([#(#times),*])), longest))
}

fn is_kind(name: &Ident) -> bool {
    ["first", "fixed", "list", "never"].iter().any(|kind| name == kind)
}

fn example(name: &str) -> &'static str {
    match name {
        "first" => "first = \"1s\"",
        "factor" => "factor = 5",
        "max" => "max = \"5m\"",
        "attempts" => "attempts = 4",
        "jitter" => "jitter = 20",
        "fixed" => "fixed = \"10s\"",
        "list" => "list = [\"1s\", \"1m\", \"10m\"]",
        _ => "never",
    }
}
