struct Unwritable;

#[hopmq_app::rpc]
trait Pricing {
    async fn quote(&self, pizza: String) -> Result<u32, Unwritable>;
}

fn main() {}
