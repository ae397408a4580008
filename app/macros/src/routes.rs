//! `routes![…]`: a closure that adds functions and their queues to an app.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Path, Result, Token};

pub(crate) fn routes(items: TokenStream) -> Result<TokenStream> {
    let items = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(items)?;
    let routes = items.iter().map(route).collect::<Result<Vec<_>>>()?;
    Ok(quote!(|app| { app #(#routes)* }))
}

fn route(item: &Expr) -> Result<TokenStream> {
    let (path, handler) = match item {
        Expr::Path(path) => (&path.path, quote!(#path)),
        Expr::Call(call) if is_cpu(&call.func) && call.args.len() == 1 => {
            let path = path(&call.args[0])?;
            (path, quote_spanned!(item.span()=> ::hopmq_app::cpu(#path)))
        }
        _ => return Err(not_a_path(item)),
    };
    Ok(quote_spanned!(item.span()=> .route(<#path>::queue(), #handler)))
}

fn path(item: &Expr) -> Result<&Path> {
    match item {
        Expr::Path(path) => Ok(&path.path),
        _ => Err(not_a_path(item)),
    }
}

fn is_cpu(function: &Expr) -> bool {
    matches!(function, Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "cpu"))
}

fn not_a_path(item: &Expr) -> Error {
    let text = "write the name of a function with `#[consumer(…)]`, or `cpu(name)`; other handlers are added with \
                `.route(queue, handler)`";
    Error::new_spanned(item, text)
}
