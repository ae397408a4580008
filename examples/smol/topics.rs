//! Topics: a subscriber gets the messages whose routing keys match its patterns.
//!
//! ```sh
//! cargo run --example smol_topics
//! ```
//!
//! Routing keys are words with dots between them. In a pattern, `*` stands for one word and `#` for any number of
//! words. RabbitMQ's fifth tutorial: <https://www.rabbitmq.com/tutorials>.

use smol::stream::StreamExt;

const EXCHANGE: &str = "smol-animals";

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let animals = channel.exchange(EXCHANGE).topic().declare().await?;

        // Keys are <speed>.<colour>.<species>.
        let mut orange = subscribe(&channel, &["*.orange.*"]).await?;
        let mut calm = subscribe(&channel, &["lazy.#", "*.*.rabbit"]).await?;
        let mut all = subscribe(&channel, &["#"]).await?;

        for key in ["quick.orange.rabbit", "lazy.orange.elephant", "quick.brown.fox", "lazy.pink.rabbit"] {
            animals.publish(key, "an animal").confirm().await?;
            println!("published  {key}");
        }

        print_all("orange", &mut orange).await?;
        // `lazy.pink.rabbit` matches both patterns, and arrives once.
        print_all("calm", &mut calm).await?;
        print_all("all", &mut all).await?;
        animals.delete().await?;
        connection.close().await
    })
}

async fn subscribe(channel: &hopmq::Channel, patterns: &[&str]) -> hopmq::Result<hopmq::Consumer> {
    let queue = channel.queue("").exclusive().declare().await?;
    for pattern in patterns {
        queue.bind(EXCHANGE, pattern).await?;
    }
    queue.consume().no_ack().await
}

async fn print_all(name: &str, animals: &mut hopmq::Consumer) -> hopmq::Result<()> {
    animals.cancel().await?;
    while let Some(animal) = animals.try_next().await? {
        println!("{name:<10} {}", animal.routing_key());
    }
    Ok(())
}
