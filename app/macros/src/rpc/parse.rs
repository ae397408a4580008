//! Reads the trait, and says what does not fit.

use proc_macro2::{Ident, Span};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, ItemTrait, LitStr, Pat, Path, PathArguments, ReceiverKind, Result,
    ReturnType, Token, TraitItem, TraitItemFn, Type, TypeParamBound,
};

/// What `#[rpc(…)]` says.
#[derive(Default)]
pub(super) struct Options {
    /// The queue of the service.
    pub(super) queue: Option<LitStr>,
    /// The codec.
    pub(super) codec: Option<Path>,
    /// Whether the futures of the server need not be `Send`.
    pub(super) local: bool,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            match name.to_string().as_str() {
                "queue" => {
                    input.parse::<Token![=]>()?;
                    options.queue = Some(input.parse()?);
                }
                "codec" => {
                    input.parse::<Token![=]>()?;
                    options.codec = Some(input.parse()?);
                }
                "local" => options.local = true,
                other => {
                    let text = format!(
                        "`#[rpc]` takes no `{other}`: write `queue = \"name\"`, `codec = Type` or `local`, or nothing"
                    );
                    return Err(Error::new(name.span(), text));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

/// A trait that is a service.
pub(super) struct Service {
    pub(super) options: Options,
    pub(super) item: ItemTrait,
    pub(super) methods: Vec<Method>,
}

/// A method of a service.
pub(super) struct Method {
    pub(super) name: Ident,
    pub(super) docs: Vec<Attribute>,
    /// What the client sends, in order.
    pub(super) arguments: Vec<(Ident, Type)>,
    /// All parameters of the method after `self`, as the server passes them.
    pub(super) parameters: Vec<Parameter>,
    pub(super) outcome: Outcome,
}

/// A parameter of a method.
pub(super) enum Parameter {
    /// From the caller.
    Argument(Ident),
    /// From the message and the app's state.
    Extracted(Ident, Box<Type>),
}

/// What a method returns.
pub(super) enum Outcome {
    /// A value that can't fail.
    Plain(Type),
    /// A `Result<T, E>`.
    Fallible(Type, Type),
    /// An `impl Stream<Item = Result<T, E>>`.
    Stream(Type, Type),
}

impl Outcome {
    /// The place of what is most likely wrong if something does not fit: the error's type, if there is one.
    pub(super) fn span(&self) -> Span {
        let kind = match self {
            Self::Plain(kind) | Self::Fallible(_, kind) | Self::Stream(_, kind) => kind,
        };
        kind.span().resolved_at(Span::call_site())
    }
}

pub(super) fn service(options: Options, mut item: ItemTrait) -> Result<Service> {
    let mut errors = Errors::default();
    if !item.generics.params.is_empty() {
        errors.add(&item.generics, "a service can't be generic: its methods are called by name over the network");
    }
    let mut methods = Vec::new();
    for member in &mut item.items {
        match member {
            TraitItem::Fn(function) => match method(function) {
                Ok(method) => methods.push(method),
                Err(error) => errors.push(error),
            },
            other => errors.add(other, "a service has methods only: move this to another trait"),
        }
    }
    if methods.is_empty() && errors.is_empty() {
        errors.add(&item.ident, "a service without methods answers nothing: write at least one `async fn`");
    }
    errors.end()?;
    Ok(Service { options, item, methods })
}

fn method(function: &mut TraitItemFn) -> Result<Method> {
    let mut errors = Errors::default();
    let signature = &mut function.sig;
    if !signature.generics.params.is_empty() {
        errors.add(&signature.generics, "a method can't be generic: the server can't know the caller's types");
    }
    if let Some(body) = &function.default {
        errors.add(body, "a method of a service has no body here: write it in the `impl` of the server");
    }
    let (mut arguments, mut parameters) = (Vec::new(), Vec::new());
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => {}
        Some(FnArg::Receiver(receiver)) => {
            errors.add(receiver, "calls run at the same time: take `&self`, and share what changes by a `Mutex`");
        }
        _ => errors.add(&signature.ident, "a method of a service takes `&self` first"),
    }
    for input in &mut signature.inputs {
        let FnArg::Typed(typed) = input else { continue };
        let extracted = take_extract(&mut typed.attrs);
        let Pat::Ident(pattern) = &*typed.pat else {
            errors
                .add(&typed.pat, "name the argument here, as `name: Type`: take it apart in the `impl` of the server");
            continue;
        };
        if let Type::Reference(reference) = &*typed.ty {
            errors.add(reference, "an argument travels, so it can't be borrowed: take it by value, such as `String`");
        }
        let (name, kind) = (pattern.ident.clone(), (*typed.ty).clone());
        if extracted {
            parameters.push(Parameter::Extracted(name, Box::new(kind)));
        } else {
            parameters.push(Parameter::Argument(name.clone()));
            arguments.push((name, kind));
        }
    }
    let outcome = outcome(signature.asyncness.is_some(), &signature.ident, &signature.output);
    let outcome = outcome.map_err(|error| errors.push(error));
    errors.end()?;
    let Ok(outcome) = outcome else { return Err(Error::new(Span::call_site(), "no outcome")) };
    let docs = function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect();
    Ok(Method { name: function.sig.ident.clone(), docs, arguments, parameters, outcome })
}

/// Removes `#[extract]` from an argument. Returns whether it was there.
fn take_extract(attributes: &mut Vec<Attribute>) -> bool {
    let before = attributes.len();
    attributes.retain(|attribute| !attribute.path().is_ident("extract"));
    attributes.len() < before
}

fn outcome(is_async: bool, name: &Ident, output: &ReturnType) -> Result<Outcome> {
    let returned = match output {
        ReturnType::Default => Type::Verbatim(quote::quote!(())),
        ReturnType::Type(_, returned) => (**returned).clone(),
    };
    if let Type::ImplTrait(stream) = &returned {
        let item = stream.bounds.iter().find_map(stream_item);
        let results = item.as_ref().and_then(results);
        let Some((value, error)) = results else {
            let text =
                "write `impl Stream<Item = Result<T, E>>`: a method answers with one value or with such a stream";
            return Err(Error::new(returned.span(), text));
        };
        if is_async {
            let text = "a method that returns a stream is `fn`, not `async fn`: what it awaits belongs into the stream";
            return Err(Error::new(name.span(), text));
        }
        return Ok(Outcome::Stream(value, error));
    }
    if !is_async {
        let text = format!("write `async fn {name}`: only a method that returns `impl Stream<…>` is a plain `fn`");
        return Err(Error::new(name.span(), text));
    }
    match (&returned, results(&returned)) {
        (_, Some((value, error))) => Ok(Outcome::Fallible(value, error)),
        (Type::Path(path), None) if path.path.segments.last().is_some_and(|last| last.ident == "Result") => {
            let text = "write both types, `Result<T, E>`: the client needs to know the type of the errors";
            Err(Error::new(returned.span(), text))
        }
        _ => Ok(Outcome::Plain(returned)),
    }
}

/// Returns the type of `Stream<Item = …>`.
fn stream_item(bound: &TypeParamBound) -> Option<Type> {
    let TypeParamBound::Trait(bound) = bound else { return None };
    let last = bound.path.segments.last().filter(|last| last.ident == "Stream")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => Some(item.ty.clone()),
        _ => None,
    })
}

/// Returns the types of `Result<T, E>`.
fn results(kind: &Type) -> Option<(Type, Type)> {
    let Type::Path(path) = kind else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(kind) => Some(kind.clone()),
        _ => None,
    });
    Some((types.next()?, types.next()?))
}

/// All that does not fit, so that one build shows it.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, at: &impl quote::ToTokens, text: &str) {
        self.push(Error::new_spanned(at, text));
    }

    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn end(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
