//! Writes the trait, the client and the server.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ReturnType, TraitItem, Type};

use super::parse::{Method, Outcome, Parameter, Service};

pub(super) fn emit(service: &Service) -> TokenStream {
    let (item, client, server) = (item(service), client(service), server(service));
    quote! { #item #client #server }
}

/// The trait, with futures that are `Send`.
fn item(service: &Service) -> TokenStream {
    let mut item = service.item.clone();
    let send = if service.options.local { quote!() } else { quote!(+ ::core::marker::Send) };
    for (member, method) in item.items.iter_mut().zip(&service.methods) {
        let TraitItem::Fn(function) = member else { continue };
        let returned = match &function.sig.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, returned) => quote!(#returned),
        };
        function.sig.asyncness = None;
        function.sig.output = ReturnType::Type(
            Default::default(),
            Box::new(Type::Verbatim(match &method.outcome {
                Outcome::Stream(..) => quote!(#returned #send),
                _ => quote!(impl ::core::future::Future<Output = #returned> #send),
            })),
        );
    }
    quote!(#item)
}

fn queue(service: &Service) -> String {
    match &service.options.queue {
        Some(queue) => queue.value(),
        None => snake_case(&service.item.ident.to_string()),
    }
}

fn codec(service: &Service) -> TokenStream {
    match &service.options.codec {
        Some(codec) => quote!(#codec),
        None => quote!(::hopmq_app::Json),
    }
}

fn client(service: &Service) -> TokenStream {
    let (visibility, name) = (&service.item.vis, format_ident!("{}Client", service.item.ident));
    let (queue, codec) = (queue(service), codec(service));
    let doc = format!("Calls the methods of [`{}`] over the queue `{queue}`.", service.item.ident);
    let methods = service.methods.iter().map(|method| client_method(service, method, &queue, &codec));
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug)]
        #visibility struct #name(::hopmq_app::rpc::Client);

        #[allow(dead_code, reason = "a program may use a part of the client")]
        impl #name {
            /// Calls through this client.
            #visibility fn new(client: ::hopmq_app::rpc::Client) -> Self {
                Self(client)
            }

            /// Sets how long a call waits for its reply.
            #[must_use]
            #visibility fn within(self, timeout: ::core::time::Duration) -> Self {
                Self(self.0.within(timeout))
            }

            /// Sets a deadline for all calls, in addition to the timeout.
            #[must_use]
            #visibility fn until(self, deadline: ::hopmq_app::Deadline) -> Self {
                Self(self.0.until(deadline))
            }

            #(#methods)*
        }

        /// The client of the app, whose calls end at the deadline of the message.
        impl<S> ::hopmq_app::FromDelivery<S> for #name {
            fn from_delivery(
                incoming: &mut ::hopmq_app::Incoming,
                state: &S,
            ) -> ::core::result::Result<Self, ::hopmq_app::Verdict> {
                <::hopmq_app::rpc::Client as ::hopmq_app::FromDelivery<S>>::from_delivery(incoming, state).map(Self)
            }
        }
    }
}

fn client_method(service: &Service, method: &Method, queue: &str, codec: &TokenStream) -> TokenStream {
    let Method { name, docs, arguments, outcome, .. } = method;
    let visibility = &service.item.vis;
    let wire = wire_name(name);
    let (names, types): (Vec<_>, Vec<_>) = arguments.iter().map(|(name, kind)| (name, kind)).unzip();
    let sent = match names.as_slice() {
        [] => quote!(&()),
        [one] => quote!(&#one),
        many => quote!(&(#(&#many),*)),
    };
    let error = quote!(::hopmq_app::rpc::RpcError);
    // What can't be read is reported at the type that the method returns.
    let at = outcome.span();
    let (result, call) = match outcome {
        Outcome::Plain(value) => (quote!(#value, #error), quote_spanned!(at=> call)),
        Outcome::Fallible(value, failed) => (quote!(#value, #error<#failed>), quote_spanned!(at=> call)),
        Outcome::Stream(value, failed) => {
            let answers = quote!(::hopmq_app::rpc::Answers<#codec, #value, #failed>);
            (quote!(#answers, #error<#failed>), quote_spanned!(at=> stream))
        }
    };
    let write = written(arguments, quote!(new::<#codec, _>));
    quote! {
        #(#docs)*
        #visibility fn #name(
            &self,
            #(#names: #types),*
        ) -> impl ::core::future::Future<Output = ::core::result::Result<#result>> + ::core::marker::Send + use<> {
            self.0.#call::<#codec, _, _>(#queue, #wire, ::hopmq_app::rpc::Written::#write(#sent))
        }
    }
}

fn server(service: &Service) -> TokenStream {
    let (visibility, name) = (&service.item.vis, &service.item.ident);
    let (queue, codec) = (queue(service), codec(service));
    let serve = format_ident!("serve_{}", snake_case(&name.to_string()));
    let doc = format!("Returns the queue of [`{name}`], and the handler that answers its calls by `server`.");
    let wires: Vec<_> = service.methods.iter().map(|method| wire_name(&method.name)).collect();
    let variants: Vec<_> = (0..service.methods.len()).map(|index| format_ident!("Method{index}")).collect();
    let reads = service.methods.iter().map(|method| read(method, &codec));
    let calls = service.methods.iter().map(|method| call(method, &codec));
    let extracted: Vec<_> = service.methods.iter().flat_map(extracted).map(|(_, kind)| kind).collect();
    let (send, sync) = match service.options.local {
        true => (quote!(), quote!()),
        false => (quote!(, Future: ::core::marker::Send), quote!(+ ::core::marker::Send + ::core::marker::Sync)),
    };
    let many: Vec<_> = (0..service.methods.len()).map(|index| format_ident!("M{index}")).collect();
    quote! {
        #[doc = #doc]
        #[allow(dead_code, reason = "a program may be a client only")]
        #visibility fn #serve<S: 'static, T: #name #sync + 'static>(server: T) -> (
            ::hopmq_app::Queue,
            impl ::hopmq_app::Handler<S, ::hopmq_app::rpc::Rpc #send> + ::core::clone::Clone #sync + use<S, T>,
        )
        where
            #(#extracted: ::hopmq_app::FromDelivery<S>,)*
        {
            enum Call<#(#many),*> {
                #(#variants(#many),)*
            }
            let server = ::std::sync::Arc::new(server);
            let dispatch = move |incoming: &mut ::hopmq_app::Incoming, state: &S| {
                let method = ::hopmq_app::rpc::method(incoming).into_owned();
                let call = match method.as_str() {
                    #(#wires => Call::#variants(#reads),)*
                    _ => return ::core::result::Result::Err(
                        ::hopmq_app::rpc::unknown_method(incoming, &[#(#wires),*]),
                    ),
                };
                let server = ::std::sync::Arc::clone(&server);
                ::core::result::Result::Ok(async move {
                    match call {
                        #(Call::#variants(call) => #calls,)*
                    }
                })
            };
            (::hopmq_app::rpc::queue(#queue), ::hopmq_app::rpc::Service::new::<S, _>(dispatch))
        }
    }
}

fn extracted(method: &Method) -> impl Iterator<Item = (&Ident, &Type)> {
    method.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Extracted(name, kind) => Some((name, &**kind)),
        Parameter::Argument(_) => None,
    })
}

/// Reads what a method takes: a tuple of the arguments, of what is extracted, and of the stream to be opened.
fn read(method: &Method, codec: &TokenStream) -> TokenStream {
    let types = method.arguments.iter().map(|(_, kind)| kind);
    let arguments = match method.arguments.len() {
        0 => quote!(()),
        1 => quote!(#(#types)*),
        _ => quote!((#(#types),*)),
    };
    let extracted = extracted(method).map(|(_, kind)| quote!(::hopmq_app::rpc::argument::<S, #kind>(incoming, state)?));
    let opened = match method.outcome {
        Outcome::Stream(..) => quote!(::hopmq_app::rpc::open_stream(incoming)?),
        _ => quote!(()),
    };
    let read = written(&method.arguments, quote!(arguments::<#codec, #arguments>));
    quote! {(
        ::hopmq_app::rpc::#read(incoming)?,
        (#(#extracted,)*),
        #opened,
    )}
}

/// Calls a method with what was read.
fn call(method: &Method, codec: &TokenStream) -> TokenStream {
    let name = &method.name;
    let arguments = match method.arguments.as_slice() {
        [] => quote!(()),
        [(one, _)] => quote!(#one),
        many => {
            let names = many.iter().map(|(name, _)| name);
            quote!((#(#names),*))
        }
    };
    let extracted = extracted(method).map(|(name, _)| name);
    let parameters = method.parameters.iter().map(|parameter| match parameter {
        Parameter::Argument(name) | Parameter::Extracted(name, _) => name,
    });
    let called = quote!(server.#name(#(#parameters),*));
    let at = method.outcome.span();
    let answered = match &method.outcome {
        Outcome::Plain(_) => quote_spanned!(at=> reply::<#codec, _>),
        Outcome::Fallible(..) => quote_spanned!(at=> reply_result::<#codec, _, _>),
        Outcome::Stream(..) => quote_spanned!(at=> serve::<#codec, _, _, _>),
    };
    let answered = match &method.outcome {
        Outcome::Stream(..) => quote!(opening.#answered(|| #called).await),
        _ => quote!(::hopmq_app::rpc::#answered(&#called.await)),
    };
    let opening = match method.outcome {
        Outcome::Stream(..) => quote!(opening),
        _ => quote!(()),
    };
    quote! {{
        let (#arguments, (#(#extracted,)*), #opening) = call;
        #answered
    }}
}

/// Gives the code that writes or reads arguments the place of the first one, for errors about its type.
fn written(arguments: &[(Ident, Type)], code: TokenStream) -> TokenStream {
    let Some((_, kind)) = arguments.first() else { return code };
    let at = kind.span().resolved_at(Span::call_site());
    code.into_iter()
        .map(|mut token| {
            if let TokenTree::Ident(ident) = &mut token
                && ["new", "arguments"].contains(&ident.to_string().as_str())
            {
                ident.set_span(at);
            }
            token
        })
        .collect()
}

/// The name of a method on the wire: a raw identifier loses its `r#`.
fn wire_name(name: &Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.trim_start_matches("r#").chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn the_queue_of_a_service_is_its_name_in_snake_case() {
        assert_eq!(snake_case("Pricing"), "pricing");
        assert_eq!(snake_case("OrderBook"), "order_book");
    }
}
