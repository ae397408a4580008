//! Attributes that make async and blocking tests from one source.
//!
//! A scenario is written as async Rust. These attributes pass it to the macro `choose!` of the client API in two
//! versions: as written, and with each `async` and `.await` removed. The macro takes the version that the client API
//! can run.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Turns an `async fn(Test) -> Outcome` into a test. `#[scenario(alone)]` runs without other scenarios in parallel.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let alone = arguments.to_string() == "alone";
    let name = name_of(&item);
    let text = format!("crate::api::run(concat!(module_path!(), \"::{name}\"), {alone}, {name});");
    let mut body = either(TokenStream::new(), item);
    body.extend(parse(&text));
    let mut test = parse(&format!("#[test] fn {name}()"));
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    test
}

/// Makes both versions of any other item that scenarios use.
#[proc_macro_attribute]
pub fn either(_: TokenStream, item: TokenStream) -> TokenStream {
    let versions = [item.clone(), blocking(item)];
    let versions = versions.map(|version| TokenTree::Group(Group::new(Delimiter::Brace, version)));
    let mut choice = parse("crate::api::choose!");
    choice.extend([TokenTree::Group(Group::new(Delimiter::Brace, versions.into_iter().collect()))]);
    choice
}

fn parse(text: &str) -> TokenStream {
    text.parse().expect("the text is Rust")
}

fn name_of(function: &TokenStream) -> String {
    let mut tokens = function.clone().into_iter();
    tokens.find(|token| is(Some(token), "fn"));
    tokens.next().expect("a function has a name").to_string()
}

/// Returns the tokens without `async` and `.await`.
fn blocking(stream: TokenStream) -> TokenStream {
    let mut result = TokenStream::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident.to_string() == "async" => {
                let taken = tokens.next_if(|next| is(Some(next), "move"));
                if !matches!(tokens.peek(), Some(TokenTree::Group(_))) {
                    result.extend(taken);
                }
            }
            TokenTree::Punct(dot) if dot.as_char() == '.' && is(tokens.peek(), "await") => {
                tokens.next();
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), blocking(group.stream()));
                inner.set_span(group.span());
                result.extend([TokenTree::Group(inner)]);
            }
            other => result.extend([other]),
        }
    }
    result
}

fn is(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident.to_string() == name)
}
