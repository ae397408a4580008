use futures_lite::Stream;

type Result<T> = std::result::Result<T, String>;

#[hopmq_app::rpc]
trait Pricing {
    const LIMIT: u32;
    fn blocking(&self, pizza: String) -> u32;
    async fn borrowed(&self, pizza: &str) -> u32;
    async fn changes(&mut self, pizza: String) -> u32;
    async fn without_self(pizza: String) -> u32;
    async fn generic<T>(&self, pizza: T) -> u32;
    async fn with_body(&self) -> u32 {
        9
    }
    async fn alias(&self) -> Result<u32>;
    async fn stream(&self) -> impl Stream<Item = Result<u32, String>>;
    fn no_results(&self) -> impl Stream<Item = u32>;
    async fn pattern(&self, (a, b): (u32, u32)) -> u32;
}

fn main() {}
