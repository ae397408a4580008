#[hopmq_app::rpc]
trait Pricing {
    async fn quote(&self, pizza: String) -> u32;
}

struct Prices;

impl Pricing for Prices {
    async fn quote(&self, pizza: String) -> u32 {
        let shared = std::rc::Rc::new(pizza);
        futures_lite::future::yield_now().await;
        shared.len() as u32
    }
}

fn main() {}
