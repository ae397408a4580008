//! `#[consumer(…)]`: the queue of a function.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{Error, Expr, Result};

use crate::check::checks;
use crate::function::Function;
use crate::literal::{self, Time};
use crate::pattern;
use crate::retry::{Retry, retry};
use crate::words::{Form, Value, Word, Words, unknown};

/// The longest wait in a handler's place: `LONGEST_IN_SLOT` of the app.
const LONGEST_IN_SLOT: Duration = Duration::from_secs(15 * 60);

pub(crate) fn consumer(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let words: Words = syn::parse2(arguments)?;
    let function: Function = syn::parse2(item)?;
    let queue = queue(&words)?;
    let state = words.find("state").and_then(|word| match &word.value {
        Value::Type(state) => Some(state),
        _ => None,
    });
    let checks = checks(&function, state);
    let (visibility, name) = (&function.visibility, &function.name);
    let about = format!("The queue of the handler [`{name}()`]({name}()).");
    Ok(quote! {
        #[doc = #about]
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #visibility enum #name {}

        impl #name {
            /// Returns the queue, as its attribute says.
            #[allow(dead_code)]
            #visibility fn queue() -> ::hopmq_app::Queue {
                #queue
            }
        }

        #checks
    })
}

/// Returns the expression of the queue.
fn queue(words: &Words) -> Result<TokenStream> {
    let Some((name, _)) = words.value("queue") else {
        let place = proc_macro2::Span::call_site();
        return Err(Error::new(place, "a consumer needs a queue: write `#[consumer(queue = \"orders\")]`"));
    };
    literal::name(name, "the queue")?;
    contradictions(words)?;
    // What a kind of queue sets may be changed by the other words.
    let (kinds, others): (Vec<_>, Vec<_>) = words.0.iter().partition(|word| word.known.form == Form::Flag);
    let others = others.into_iter().filter(|word| word.name != "queue" && word.name != "state");
    let methods = kinds.into_iter().chain(others).map(|word| method(word, words)).collect::<Result<Vec<_>>>()?;
    Ok(quote!(::hopmq_app::Queue::new(#name) #(#methods)*))
}

/// Returns the call of `Queue`'s method for a word.
fn method(word: &Word, words: &Words) -> Result<TokenStream> {
    let name = &word.name;
    let arguments = match (name.to_string().as_str(), &word.value) {
        ("bind", Value::Is(value)) => bind(word, value)?,
        ("bind", Value::Call(arguments)) if arguments.len() == 2 => quote!(#(#arguments),*),
        ("existing", Value::Is(value)) => existing(value)?,
        ("dead_letter", value) => dead_letter(word, value, words)?,
        ("retry", Value::Is(backoff)) => quote!(#backoff),
        ("retry", Value::Call(parts)) => in_slot(retry(name.span(), parts)?, words)?,
        ("retry_class", Value::Call(parts)) => match &parts[..] {
            [class, parts @ ..] if literal::text(class).is_some() => {
                let backoff = in_slot(retry(name.span(), parts)?, words)?;
                quote!(#class, #backoff)
            }
            _ => return Err(word.wrong()),
        },
        (_, Value::Is(value)) if word.known.form == Form::Time => Time::read(value)?.tokens,
        (_, Value::Is(value)) if word.known.form == Form::Value => quote!(#value),
        (_, Value::Call(arguments)) if word.known.form == Form::Call => quote!(#(#arguments),*),
        (_, Value::Nothing) if word.known.form == Form::Flag => quote!(),
        _ => return Err(word.wrong()),
    };
    Ok(quote_spanned!(name.span()=> .#name(#arguments)))
}

fn bind(word: &Word, value: &Expr) -> Result<TokenStream> {
    let text = literal::text(value).ok_or_else(|| {
        Error::new_spanned(value, "a constant is written `bind(EXCHANGE, KEY)`; `bind = …` takes a text")
    })?;
    let binding = text.value();
    let (exchange, key) = pattern::binding(&binding).map_err(|why| Error::new(text.span(), why))?;
    let _ = word;
    Ok(quote!(#exchange, #key))
}

fn existing(value: &Expr) -> Result<TokenStream> {
    let Expr::Path(path) = value else { return Ok(quote!(#value)) };
    let Some(name) = path.path.get_ident() else { return Ok(quote!(#value)) };
    let variant = match name.to_string().as_str() {
        "refuse" => "Refuse",
        "adopt" => "Adopt",
        "require" => "Require",
        // A constant.
        text if text.chars().all(|c| c.is_ascii_uppercase() || c == '_') => return Ok(quote!(#value)),
        _ => return Err(unknown(name, "choice", ["refuse", "adopt", "require"].into_iter())),
    };
    let variant = format_ident!("{variant}", span = name.span());
    Ok(quote!(::hopmq_app::Existing::#variant))
}

fn dead_letter(word: &Word, value: &Value, words: &Words) -> Result<TokenStream> {
    Ok(match value {
        Value::Nothing => quote!(::hopmq_app::DeadLetter::Queues),
        Value::Is(value) => match (literal::boolean(value), literal::text(value)) {
            (Some(true), _) => quote!(::hopmq_app::DeadLetter::Queues),
            (Some(false), _) => quote!(::hopmq_app::DeadLetter::Reject),
            (_, Some(queue)) => {
                literal::name(value, "the queue of dead letters")?;
                let own = words.value("queue").and_then(|(name, _)| literal::text(name));
                if own.is_some_and(|own| own.value() == queue.value()) {
                    let text = "these dead letters would come back to the handler at once, round and round: name \
                                another queue";
                    return Err(Error::new(queue.span(), text));
                }
                quote!(::hopmq_app::DeadLetter::To(#queue.into()))
            }
            _ => quote!(#value),
        },
        _ => return Err(word.wrong()),
    })
}

/// Refuses delays that are too long for messages that wait in their place.
fn in_slot(retry: Retry, words: &Words) -> Result<TokenStream> {
    let holder = ["ordered_by", "exclusive"].into_iter().find(|word| words.find(word).is_some());
    if let (Some(holder), Some((longest, place))) = (holder, retry.longest)
        && longest > LONGEST_IN_SLOT
    {
        let text = format!(
            "a delay of {} s is too long with `{holder}`, which keeps a failed message in its place: at most 15 \
             minutes are possible",
            longest.as_secs()
        );
        return Err(Error::new(place, text));
    }
    Ok(retry.tokens)
}

/// Refuses words that can't both be true.
fn contradictions(words: &Words) -> Result<()> {
    for (one, other, why) in [
        ("quorum", "classic", "a queue has one type: leave out one of both"),
        ("quorum", "exclusive", "a quorum queue can't be exclusive: leave out one of both"),
        ("quorum", "auto_delete", "a quorum queue can't delete itself: leave out one of both"),
    ] {
        if let (Some(_), Some(word)) = (words.find(one), words.find(other)) {
            return Err(Error::new(word.name.span(), format!("`{one}` and `{other}`: {why}")));
        }
    }
    let number = |name| words.value(name).and_then(|(value, _)| Some((value, literal::number(value)?)));
    let concurrency = number("concurrency");
    if let Some((value, 0)) = concurrency {
        return Err(Error::new_spanned(value, "no message would be handled: the least is 1"));
    }
    if let (Some((_, places)), Some((value, prefetch @ 1..))) = (concurrency, number("prefetch"))
        && prefetch < places
    {
        let text = format!(
            "the broker sends {prefetch} messages ahead, so that {} of {places} places stay idle: `prefetch` is at \
             least as much as `concurrency`, or left out",
            places - prefetch
        );
        return Err(Error::new_spanned(value, text));
    }
    Ok(())
}
