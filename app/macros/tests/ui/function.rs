use hopmq_app::{Text, consumer, handler};

#[handler]
async fn generic<T: 'static>(_: hopmq_app::State<T>) {}

#[handler]
async fn borrowed<'a>(_: &'a str) {}

#[handler]
async fn any_text(_: impl AsRef<str>) {}

struct Shop;

impl Shop {
    #[handler]
    async fn method(&self, _: Text) {}
}

type A = hopmq_app::Attempt;

#[handler]
async fn thirteen(_: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A) {}

#[consumer(queue = "orders")]
struct NoFunction;

fn main() {}
