//! Topics: a subscriber gets the messages whose routing keys match its patterns.
//!
//! ```sh
//! cargo run --example blocking_topics
//! ```
//!
//! Routing keys are words with dots between them. In a pattern, `*` stands for one word and `#` for any number of
//! words. RabbitMQ's fifth tutorial: <https://www.rabbitmq.com/tutorials>.

use hopmq_blocking::{Channel, Connection, Consumer, Result};

const EXCHANGE: &str = "blocking-animals";

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;
    let animals = channel.exchange(EXCHANGE).topic().declare()?;

    // Keys are <speed>.<colour>.<species>.
    let orange = subscribe(&channel, &["*.orange.*"])?;
    let calm = subscribe(&channel, &["lazy.#", "*.*.rabbit"])?;
    let all = subscribe(&channel, &["#"])?;

    for key in ["quick.orange.rabbit", "lazy.orange.elephant", "quick.brown.fox", "lazy.pink.rabbit"] {
        animals.publish(key, "an animal").confirm()?;
        println!("published  {key}");
    }

    print_all("orange", orange)?;
    // `lazy.pink.rabbit` matches both patterns, and arrives once.
    print_all("calm", calm)?;
    print_all("all", all)?;
    animals.delete().delete()?;
    connection.close()
}

fn subscribe(channel: &Channel, patterns: &[&str]) -> Result<Consumer> {
    let queue = channel.queue("").exclusive().declare()?;
    for pattern in patterns {
        queue.bind(EXCHANGE, pattern)?;
    }
    queue.consume().no_ack().start()
}

fn print_all(name: &str, animals: Consumer) -> Result<()> {
    animals.cancel()?;
    for animal in animals {
        println!("{name:<10} {}", animal?.routing_key());
    }
    Ok(())
}
