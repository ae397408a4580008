//! Checks of a function's arguments and result, so that an error points at what does not fit.
//!
//! In comes a [`Function`]; out goes code that is compiled and never called, in which each type has the place that it
//! has in the function.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, GenericArgument, Ident, PathArguments, Result, Token, Type};

use crate::function::Function;

pub(crate) fn handler(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let state = syn::parse2::<HandlerWords>(arguments)?.state;
    Ok(checks(&syn::parse2(item)?, state.as_ref()))
}

/// What `#[handler(…)]` may say.
struct HandlerWords {
    state: Option<Type>,
}

impl Parse for HandlerWords {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self { state: None });
        }
        let word: Ident = input.parse()?;
        if word != "state" {
            let text =
                format!("unknown word `{word}`: `#[handler]` knows only `state = …`; queues are of `#[consumer]`");
            return Err(Error::new(word.span(), text));
        }
        input.parse::<Token![=]>()?;
        let state = Some(input.parse()?);
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { state })
    }
}

/// Returns the checks of a function. Without a state, a state is taken that has every part.
pub(crate) fn checks(function: &Function, state: Option<&Type>) -> TokenStream {
    let state = state.map_or_else(|| quote!(::hopmq_app::check::AnyState), |state| quote!(#state));
    let arguments = function
        .arguments
        .iter()
        .map(|kind| quote_spanned!(kind.span()=> ::hopmq_app::check::argument::<#kind, #state>();));
    let results = function.result.iter().flat_map(results);
    quote! {
        const _: () = {
            #[allow(dead_code, clippy::extra_unused_type_parameters)]
            fn check() {
                #(#arguments)*
                #(#results)*
            }
        };
    }
}

/// A `Result` is checked by its parts, to point at the one that does not fit.
fn results(kind: &Type) -> Vec<TokenStream> {
    if let Type::Path(path) = kind
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
        && let PathArguments::AngleBracketed(parts) = &last.arguments
        && let [GenericArgument::Type(outcome), GenericArgument::Type(error)] =
            &parts.args.iter().collect::<Vec<_>>()[..]
    {
        return vec![
            quote_spanned!(outcome.span()=> ::hopmq_app::check::outcome::<#outcome>();),
            quote_spanned!(error.span()=> ::hopmq_app::check::error::<#error>();),
        ];
    }
    match kind {
        // The result of a plain function that returns a future is what the future yields.
        Type::ImplTrait(_) => Vec::new(),
        _ => vec![quote_spanned!(kind.span()=> ::hopmq_app::check::outcome::<#kind>();)],
    }
}
