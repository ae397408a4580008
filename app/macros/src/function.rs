//! What the attributes need to know about a function. The body is not read.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, FnArg, GenericParam, Ident, Result, ReturnType, Signature, Type, Visibility};

/// As many arguments as `Handler` is implemented for.
const MOST_ARGUMENTS: usize = 12;

/// A function that can be a handler.
pub(crate) struct Function {
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) arguments: Vec<Type>,
    /// `None` for `()`.
    pub(crate) result: Option<Type>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Attribute::parse_outer(input)?;
        let visibility = input.parse()?;
        let place = input.span();
        let signature: Signature = input
            .parse()
            .map_err(|_| Error::new(place, "the attribute belongs to a function: write it above `async fn …`"))?;
        input.parse::<TokenStream>()?;
        Self::new(visibility, signature)
    }
}

impl Function {
    fn new(visibility: Visibility, signature: Signature) -> Result<Self> {
        if let Some(parameter) = signature.generics.params.first() {
            let text = match parameter {
                GenericParam::Lifetime(_) => {
                    "a handler borrows nothing, as it may outlive the delivery: take owned values, such as `Text`"
                }
                _ => "a handler has no type parameters: name the types, or write a function for each of them",
            };
            return Err(Error::new_spanned(parameter, text));
        }
        if let Some(argument) = signature.inputs.iter().nth(MOST_ARGUMENTS) {
            let text = format!("a handler has at most {MOST_ARGUMENTS} arguments: join some in one extractor");
            return Err(Error::new_spanned(argument, text));
        }
        let arguments = signature.inputs.into_iter().map(argument).collect::<Result<_>>()?;
        let result = match signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, kind) => Some(*kind),
        };
        Ok(Self { visibility, name: signature.ident, arguments, result })
    }
}

fn argument(argument: FnArg) -> Result<Type> {
    match argument {
        FnArg::Receiver(this) => {
            let text = "a handler is a function without `self`: take what it needs as `State(name): State<…>`";
            Err(Error::new_spanned(this, text))
        }
        FnArg::Typed(typed) => match *typed.ty {
            Type::ImplTrait(kind) => {
                let text = "a handler's arguments have types with names: write the type in place of `impl …`";
                Err(Error::new_spanned(kind, text))
            }
            kind => Ok(kind),
        },
    }
}
