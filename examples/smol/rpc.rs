//! RPC: a client asks over a queue, a server answers.
//!
//! ```sh
//! cargo run --example smol_rpc
//! ```
//!
//! RabbitMQ's sixth tutorial (<https://www.rabbitmq.com/tutorials>), with
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to) in place of a queue for the answers.

use smol::stream::StreamExt;

const QUEUE: &str = "smol-fibonacci";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;
        let queue = channel.queue(QUEUE).durable().declare().await?;
        let server = smol::spawn(serve(queue.consume().prefetch(1).await?, channel.clone()));

        let mut client = Client::new(connection.channel().await?).await?;
        for n in [5, 10, 30] {
            println!("fibonacci({n}) = {}", client.fibonacci(n).await?);
        }

        server.cancel().await;
        queue.delete().await?;

        // Without a server's queue, the question comes back. So nobody waits for an answer that can't come.
        match client.fibonacci(40).await {
            Err(error) => println!("without a server: {error}"),
            Ok(answer) => println!("an answer from nowhere: {answer}"),
        }
        Ok(connection.close().await?)
    })
}

async fn serve(mut questions: hopmq::Consumer, channel: hopmq::Channel) -> hopmq::Result<()> {
    while let Some(question) = questions.try_next().await? {
        let answer = match question.text().parse() {
            Ok(n) => fibonacci(n).to_string(),
            Err(error) => format!("not a number: {error}"),
        };
        // Where to answer, and which question it was, the client has said in the properties.
        let properties = question.properties();
        if let Some(reply_to) = properties.reply_to() {
            let id = properties.correlation_id().unwrap_or_default();
            channel.publish("", reply_to, answer).correlation_id(id).send().await?;
        }
        question.ack()?;
    }
    Ok(())
}

fn fibonacci(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

struct Client {
    channel: hopmq::Channel,
    answers: hopmq::Consumer,
    asked: u32,
}

impl Client {
    async fn new(channel: hopmq::Channel) -> hopmq::Result<Self> {
        // A queue that is not one: the broker hands answers over straight away. It wants no acknowledgements.
        let answers = channel.consume("amq.rabbitmq.reply-to").no_ack().await?;
        Ok(Self { channel, answers, asked: 0 })
    }

    async fn fibonacci(&mut self, n: u32) -> Result<u64, Box<dyn std::error::Error>> {
        self.asked += 1;
        let id = self.asked.to_string();
        self.channel
            .publish("", QUEUE, n.to_string())
            .reply_to("amq.rabbitmq.reply-to")
            .correlation_id(&id)
            .mandatory()
            .confirm()
            .await?;
        while let Some(answer) = self.answers.try_next().await? {
            // An answer to an earlier question, which we had given up, is not ours.
            if answer.properties().correlation_id() == Some(&id) {
                return Ok(answer.text().parse()?);
            }
        }
        Err("the consumer of answers was cancelled".into())
    }
}
