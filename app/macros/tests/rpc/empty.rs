#[hopmq_app::rpc]
trait Nothing {}

#[hopmq_app::rpc]
trait Generic<T> {
    async fn quote(&self) -> u32;
}

fn main() {}
