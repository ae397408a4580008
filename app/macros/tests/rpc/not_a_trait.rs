#[hopmq_app::rpc]
fn quote(pizza: String) -> u32 {
    9
}

fn main() {}
