struct Clock;

#[hopmq_app::rpc]
trait Pricing {
    async fn quote(&self, #[extract] clock: Clock) -> u32;
}

struct Prices;

impl Pricing for Prices {
    async fn quote(&self, clock: Clock) -> u32 {
        9
    }
}

fn main() {
    let (queue, pricing) = serve_pricing(Prices);
    let _ = hopmq_app::App::new(()).route(queue, pricing);
}
