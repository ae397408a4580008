//! `#[rpc]`: makes a client and a server of a trait.
//!
//! In comes a trait; out go the trait, whose async methods return `Send` futures, a client with the same methods, and a
//! function that makes a handler of an implementation. It must never know a codec or a queue of its own.

mod emit;
mod parse;

use proc_macro2::TokenStream;
use syn::ItemTrait;

/// Expands `#[rpc(arguments)]` on `item`.
pub(crate) fn rpc(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse2::<parse::Options>(arguments).and_then(|options| {
        let item: ItemTrait = syn::parse2(item)
            .map_err(|error| syn::Error::new(error.span(), format!("`#[rpc]` belongs on a trait: {error}")))?;
        Ok(emit::emit(&parse::service(options, item)?))
    });
    expanded.unwrap_or_else(|error| error.to_compile_error())
}
