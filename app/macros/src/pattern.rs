//! Bindings: the exchange and the routing key in one text.

/// Splits `exchange/routing key`, and refuses a topic pattern with a word that can't be meant.
pub(crate) fn binding(text: &str) -> Result<(&str, &str), String> {
    let Some((exchange, key)) = text.split_once('/') else {
        return Err(format!("write the exchange, a slash and the routing key, as in \"{}\"", example(text)));
    };
    if exchange.is_empty() {
        return Err(
            "a queue can't be bound to the default exchange, which routes by the queue's name already: publish \
                    to it with the name as the routing key"
                .to_owned(),
        );
    }
    pattern(exchange, key)?;
    for (what, part) in [("exchange", exchange), ("routing key", key)] {
        if part.len() > 255 {
            return Err(format!("the {what} has {} bytes, at most 255 are possible", part.len()));
        }
    }
    Ok((exchange, key))
}

/// A word of a pattern is `*`, `#`, or has none of both.
fn pattern(exchange: &str, key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Ok(());
    }
    for word in key.split('.') {
        if word.is_empty() {
            return Err(format!(
                "the pattern {key:?} has an empty word, which no usual routing key has: leave out a dot, or write \
                 `bind({exchange:?}, {key:?})` for this very key"
            ));
        }
        if word.len() > 1 && word.contains(['*', '#']) {
            return Err(format!(
                "`{word}` matches only this very word: `*` stands for a whole word and `#` for any number of words, \
                 with dots between; for the key as it is, write `bind({exchange:?}, {key:?})`"
            ));
        }
    }
    Ok(())
}

fn example(text: &str) -> String {
    match text.split_once('.') {
        Some((first, rest)) if !first.is_empty() && !rest.is_empty() => format!("{first}/{rest}"),
        _ if text.is_empty() => "shop/order.*".to_owned(),
        _ => format!("{text}/order.*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_an_exchange_and_a_key() {
        assert_eq!(binding("shop/order.*").unwrap(), ("shop", "order.*"));
        assert_eq!(binding("shop/#").unwrap(), ("shop", "#"));
        assert_eq!(binding("news/").unwrap(), ("news", ""));
        assert_eq!(binding("a/b/c").unwrap(), ("a", "b/c"));
    }

    #[test]
    fn a_pattern_that_can_not_be_meant_is_refused() {
        for text in ["shop/#.", "shop/.a", "shop/a..b"] {
            assert!(binding(text).unwrap_err().contains("empty word"), "{text}");
        }
        for text in ["shop/order*", "shop/a.#b", "shop/**"] {
            assert!(binding(text).unwrap_err().contains("very word"), "{text}");
        }
        assert!(binding("/order").unwrap_err().contains("default exchange"));
        assert!(binding("shop.order").unwrap_err().contains("\"shop/order\""));
        assert!(binding(&format!("a/{}", "b".repeat(256))).unwrap_err().contains("256 bytes"));
    }
}
