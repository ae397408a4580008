//! The words of `#[consumer(…)]`, and how each is written.
//!
//! In comes the text between the parentheses; out go words with their values, each known, written as it must be, and
//! there once. What a word means is not known here.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, Result, Token, Type, parenthesized};

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// `quorum`
    Flag,
    /// `prefetch = 8`
    Value,
    /// `argument("x-max-length", 1000)`
    Call,
    /// `timeout = "30s"`
    Time,
    /// As the word says: more than one form is possible.
    Any,
    /// `state = Shop`
    Type,
}

/// A word that the attribute knows. All but `queue` and `state` are methods of `Queue`.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// Whether the word may be there more than once.
    repeated: bool,
    /// How it is written.
    example: &'static str,
}

const fn once(name: &'static str, form: Form, example: &'static str) -> Known {
    Known { name, form, repeated: false, example }
}

const fn repeated(name: &'static str, form: Form, example: &'static str) -> Known {
    Known { name, form, repeated: true, example }
}

/// All words. Those with the form `Flag`, `Value`, `Time` or `Call` are written as a call of the method of that name.
pub(crate) const WORDS: &[Known] = &[
    once("queue", Form::Value, "queue = \"orders\""),
    once("state", Form::Type, "state = Shop"),
    repeated("bind", Form::Any, "bind = \"shop/order.*\""),
    repeated("bind_with", Form::Call, "bind_with(\"shop\", \"\", arguments())"),
    once("quorum", Form::Flag, "quorum"),
    once("classic", Form::Flag, "classic"),
    once("exclusive", Form::Flag, "exclusive"),
    once("auto_delete", Form::Flag, "auto_delete"),
    once("single_active_consumer", Form::Flag, "single_active_consumer"),
    repeated("argument", Form::Call, "argument(\"x-max-length\", 1000)"),
    once("existing", Form::Any, "existing = adopt"),
    once("retry", Form::Any, "retry(first = \"1s\", factor = 5, attempts = 4)"),
    repeated("retry_class", Form::Any, "retry_class(\"timeout\", fixed = \"1s\")"),
    once("broker_retry", Form::Call, "broker_retry(Duration::from_secs(1), Duration::from_secs(60))"),
    once("dead_letter", Form::Any, "dead_letter = \"orders.dead\""),
    once("delivery_limit", Form::Value, "delivery_limit = 10"),
    once("body_limit", Form::Value, "body_limit = 1 << 20"),
    once("concurrency", Form::Value, "concurrency = 4"),
    once("prefetch", Form::Value, "prefetch = 8"),
    once("ordered_by", Form::Value, "ordered_by = customer_of"),
    once("partitions", Form::Value, "partitions = 8"),
    once("rate_limit", Form::Value, "rate_limit = Rate::new(100, Duration::from_secs(1))"),
    once("breaker", Form::Value, "breaker = Breaker::after(5)"),
    once("priority", Form::Value, "priority = 5"),
    repeated("consumer_argument", Form::Call, "consumer_argument(\"x-stream-offset\", \"first\")"),
    once("consumer_tag", Form::Value, "consumer_tag = \"shop\""),
];

/// A word and its value.
pub(crate) struct Word {
    pub(crate) name: Ident,
    pub(crate) known: &'static Known,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    Nothing,
    Is(Expr),
    Call(Vec<Expr>),
    Type(Type),
}

impl Parse for Word {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name: Ident = input.parse()?;
        let known = WORDS
            .iter()
            .find(|known| name == known.name)
            .ok_or_else(|| unknown(&name, "word", WORDS.iter().map(|known| known.name)))?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            match known.form {
                Form::Type => Value::Type(input.parse()?),
                _ => Value::Is(input.parse()?),
            }
        } else if input.peek(syn::token::Paren) {
            let content;
            parenthesized!(content in input);
            Value::Call(Punctuated::<Expr, Token![,]>::parse_terminated(&content)?.into_iter().collect())
        } else {
            Value::Nothing
        };
        let fits = match known.form {
            Form::Flag => matches!(value, Value::Nothing),
            Form::Value | Form::Time => matches!(value, Value::Is(_)),
            Form::Call => matches!(value, Value::Call(_)),
            Form::Type => matches!(value, Value::Type(_)),
            Form::Any => true,
        };
        let word = Self { name, known, value };
        if fits { Ok(word) } else { Err(word.wrong()) }
    }
}

impl Word {
    /// Returns the error for a word that is not written as it must be.
    pub(crate) fn wrong(&self) -> Error {
        Error::new(self.name.span(), format!("write `{}`", self.known.example))
    }
}

/// The words of one attribute.
pub(crate) struct Words(pub(crate) Vec<Word>);

impl Parse for Words {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let words: Vec<_> = Punctuated::<Word, Token![,]>::parse_terminated(input)?.into_iter().collect();
        for (index, word) in words.iter().enumerate() {
            if !word.known.repeated && words[..index].iter().any(|earlier| earlier.name == word.name) {
                return Err(Error::new(word.name.span(), format!("`{}` is there twice: leave out one", word.name)));
            }
        }
        Ok(Self(words))
    }
}

impl Words {
    pub(crate) fn find(&self, name: &str) -> Option<&Word> {
        self.0.iter().find(|word| word.name == name)
    }

    /// Returns the value of a word, if it is there and has one, and where the word is.
    pub(crate) fn value(&self, name: &str) -> Option<(&Expr, Span)> {
        match self.find(name)? {
            Word { value: Value::Is(value), name, .. } => Some((value, name.span())),
            _ => None,
        }
    }
}

/// Returns the error for a name that is not one of `known`, with the one that was probably meant.
pub(crate) fn unknown(name: &Ident, what: &str, known: impl Iterator<Item = &'static str> + Clone) -> Error {
    let written = name.to_string();
    let nearest = known.clone().map(|known| (distance(&written, known), known)).min();
    let advice = match nearest {
        Some((distance, near)) if distance <= 1 + near.len() / 4 => format!("did you mean `{near}`?"),
        _ => format!("the words are `{}`", known.collect::<Vec<_>>().join("`, `")),
    };
    Error::new(name.span(), format!("unknown {what} `{written}`: {advice}"))
}

/// How many letters must be changed, added, left out or swapped with the next to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.bytes().collect(), b.bytes().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_proposed() {
        let propose = |name| {
            let name = Ident::new(name, Span::call_site());
            unknown(&name, "word", WORDS.iter().map(|known| known.name)).to_string()
        };
        assert_eq!(propose("prefech"), "unknown word `prefech`: did you mean `prefetch`?");
        assert_eq!(propose("queu"), "unknown word `queu`: did you mean `queue`?");
        assert_eq!(propose("retyr"), "unknown word `retyr`: did you mean `retry`?");
        assert_eq!(propose("deadletter"), "unknown word `deadletter`: did you mean `dead_letter`?");
        assert!(propose("colour").starts_with("unknown word `colour`: the words are `queue`, `state`, `bind`"));
    }

    #[test]
    fn each_word_is_written_as_its_example() {
        for known in WORDS {
            let words: Words = syn::parse_str(known.example).unwrap();
            assert_eq!(words.0[0].name, known.name);
        }
    }

    #[test]
    fn each_method_that_sets_something_of_a_queue_is_a_word() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/topology");
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let files: Vec<_> = files.collect();
        let methods = files.iter().flat_map(|text| text.split("\nimpl Queue {\n").skip(1));
        let methods = methods.flat_map(|text| text.split("\n}\n").next().unwrap().split("    pub fn ").skip(1));
        let signatures = methods.filter_map(|text| text.split('{').next());
        let setters =
            signatures.filter(|text| text.contains("self") && !text.contains("&self") && text.contains("-> Self"));
        let names: Vec<_> = setters.filter_map(|text| text.split(['(', '<']).next()).collect();
        assert!(
            names.contains(&"quorum") && names.contains(&"bind_with") && names.contains(&"ordered_by"),
            "{names:?}"
        );
        // Handlers of batches are added with `App::route_batch`, and the types of payloads are no values.
        let others = ["batch", "receives", "replies"];
        for name in names.into_iter().filter(|name| !others.contains(name)) {
            assert!(WORDS.iter().any(|known| known.name == name), "`#[consumer]` does not know Queue::{name}");
        }
    }
}
