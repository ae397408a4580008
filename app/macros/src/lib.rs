//! The macros of `hopmq-app`, which exports them: use that crate.
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod check;
mod consumer;
mod function;
mod literal;
mod pattern;
mod retry;
mod routes;
mod rpc;
mod words;

use proc_macro::TokenStream;

/// Says which queue a handler serves, with the words of `Queue`'s methods.
///
/// The function stays as it is, and can be called in tests. Beside it, `on_order::queue()` returns the
/// [`Queue`](../hopmq_app/struct.Queue.html), and [`routes!`](macro.routes.html) adds both to an app. Each argument of
/// the function and its result are checked, as [`#[handler]`](macro@handler) does.
///
/// | word | meaning |
/// | --- | --- |
/// | `queue = "orders"` | the name of the queue; the only word that must be there |
/// | `bind = "shop/order.*"` | binds the queue: the exchange, a slash, the routing key or topic pattern; may be repeated |
/// | `bind("shop", "order.*")` | the same for an exchange with a slash in its name, or a key with `*` or `#` in a word |
/// | `quorum`, `classic`, `exclusive`, `auto_delete`, `single_active_consumer` | the kind of queue |
/// | `argument("x-max-length", 1000)` | any argument of the queue; may be repeated |
/// | `existing = refuse` | what happens if the queue exists with other settings: `refuse`, `adopt`, `require` |
/// | `retry(first = "1s", factor = 5, max = "5m", attempts = 4, jitter = 20)` | exponential delays |
/// | `retry(fixed = "10s", attempts = 3)` | the same delay each time |
/// | `retry(list = ["1s", "1m", "10m"])` | these delays |
/// | `retry_class("timeout", fixed = "1s")` | attempts for one class of errors: `never`, or words as in `retry` |
/// | `broker_retry(first, longest)` | lets RabbitMQ 4.3 delay the attempts |
/// | `dead_letter`, `dead_letter = "name"`, `dead_letter = false` | where rejected messages go |
/// | `delivery_limit = 10` | parks a message that ended the program so often |
/// | `concurrency = 4`, `prefetch = 8` | how many messages are handled at once, and how many are sent ahead |
/// | `ordered_by = path::to::key` | messages with the same key are handled one after the other |
/// | `partitions = 8` | keeps that order over all members of the group |
/// | `rate_limit = Rate::new(…)`, `breaker = Breaker::after(5)` | when no messages are taken |
/// | `body_limit = 1 << 20` | the longest body, in bytes, before and after it is decompressed |
/// | `priority = 5`, `consumer_tag = "shop"`, `consumer_argument("x-stream-offset", "first")` | the consumer |
/// | `state = Shop` | the app's state, if an argument of the function is an extractor of that state only |
///
/// A time is a text such as `"500ms"`, `"1s"`, `"5m"`, `"2h"`, `"1m30s"`, or an expression of the type `Duration`. A
/// name may be a constant, `retry` may be an expression of the type `Backoff` (`retry = BACKOFF`), and `dead_letter`
/// and `existing` expressions of their types. What contradicts itself, such as `attempts = 0`, does not compile.
///
/// ```
/// use hopmq_app::{App, Classify, Json, State, consumer, routes};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// #[consumer(queue = "orders", bind = "shop/order.*", quorum, concurrency = 4,
///            retry(first = "1s", factor = 5, max = "5m", attempts = 4, jitter = 20))]
/// async fn on_order(Json(order): Json<Order>, State(shop): State<String>) -> Result<(), String> {
///     println!("{shop} got the order {}", order.id);
///     Ok(())
/// }
///
/// let app = App::new("the shop".to_owned()).with(routes![on_order]);
/// assert_eq!(app.queues().next().map(|queue| queue.name()), Some("orders"));
/// assert_eq!(on_order::queue().bindings()[0].routing_key, "order.*");
/// ```
#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |item| consumer::consumer(arguments.into(), item))
}

/// Checks a function that is given to `App::route`: a compile error then points at the argument that is no extractor,
/// or at the result that is no outcome. It changes nothing.
///
/// Extractors of one state only, such as `impl FromDelivery<Shop> for User`, need its name: `#[handler(state = Shop)]`.
///
/// ```
/// use hopmq_app::{App, Attempt, Queue, Text, handler};
///
/// #[handler]
/// async fn log(Text(line): Text, Attempt(attempt): Attempt) {
///     println!("{attempt}: {line}");
/// }
///
/// let app = App::new(()).route(Queue::new("log"), log);
/// ```
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |item| check::handler(arguments.into(), item))
}

/// Adds functions with [`#[consumer]`](macro@consumer) to an app, each with its queue: `.with(routes![a, module::b])`.
/// A plain function that runs on the pool of threads is written `cpu(c)`, as in `routes![a, cpu(c)]`.
///
/// ```
/// use hopmq_app::{App, Text, consumer, routes};
///
/// #[consumer(queue = "log")]
/// async fn log(Text(line): Text) {
///     println!("{line}");
/// }
///
/// mod store {
///     use hopmq_app::{Bytes, consumer};
///
///     #[consumer(queue = "store", concurrency = 2)]
///     pub async fn store(body: Bytes) {
///         println!("{} bytes", body.0.len());
///     }
/// }
///
/// let app = App::new(()).with(routes![log, store::store]);
/// assert_eq!(app.queues().count(), 2);
/// ```
#[proc_macro]
pub fn routes(items: TokenStream) -> TokenStream {
    routes::routes(items.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a client and a server of a trait: see [`hopmq_app::rpc`](../hopmq_app/rpc/index.html).
#[proc_macro_attribute]
pub fn rpc(arguments: TokenStream, item: TokenStream) -> TokenStream {
    rpc::rpc(arguments.into(), item.into()).into()
}

/// Adds what an attribute makes to its item, which stays even if the attribute is wrong: one error then hides no other.
fn expand(
    item: TokenStream,
    made: impl FnOnce(proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    let made = made(item.clone().into()).unwrap_or_else(syn::Error::into_compile_error);
    let mut all = item;
    all.extend(TokenStream::from(made));
    all
}
