#[hopmq_app::rpc(topic = "pricing")]
trait Pricing {
    async fn quote(&self, pizza: String) -> u32;
}

fn main() {}
