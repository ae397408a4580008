//! RPC: a client sends requests through a queue, and a server replies.
//!
//! ```sh
//! cargo run --example smol_rpc
//! ```
//!
//! RabbitMQ's sixth tutorial (<https://www.rabbitmq.com/tutorials>), with
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to) in place of a queue for the replies.

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

        // Without the queue, the broker returns a request, so the client does not wait for a reply that can't come.
        match client.fibonacci(40).await {
            Err(error) => println!("without a server: {error}"),
            Ok(reply) => println!("unexpected reply: {reply}"),
        }
        Ok(connection.close().await?)
    })
}

async fn serve(mut requests: hopmq::Consumer, channel: hopmq::Channel) -> hopmq::Result<()> {
    while let Some(request) = requests.try_next().await? {
        let reply = match request.text().parse() {
            Ok(n) => fibonacci(n).to_string(),
            Err(error) => format!("not a number: {error}"),
        };
        // The properties say where to send the reply, and to which request it belongs.
        let properties = request.properties();
        if let Some(reply_to) = properties.reply_to() {
            let id = properties.correlation_id().unwrap_or_default();
            channel.publish("", reply_to, reply).correlation_id(id).send().await?;
        }
        request.ack()?;
    }
    Ok(())
}

fn fibonacci(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

struct Client {
    channel: hopmq::Channel,
    replies: hopmq::Consumer,
    sent: u32,
}

impl Client {
    async fn new(channel: hopmq::Channel) -> hopmq::Result<Self> {
        // A pseudo-queue: the broker passes replies on without storing them, and wants no acknowledgements.
        let replies = channel.consume("amq.rabbitmq.reply-to").no_ack().await?;
        Ok(Self { channel, replies, sent: 0 })
    }

    async fn fibonacci(&mut self, n: u32) -> Result<u64, Box<dyn std::error::Error>> {
        self.sent += 1;
        let id = self.sent.to_string();
        self.channel
            .publish("", QUEUE, n.to_string())
            .reply_to("amq.rabbitmq.reply-to")
            .correlation_id(&id)
            .mandatory()
            .confirm()
            .await?;
        while let Some(reply) = self.replies.try_next().await? {
            // Skip a late reply to an earlier request that timed out.
            if reply.properties().correlation_id() == Some(&id) {
                return Ok(reply.text().parse()?);
            }
        }
        Err("the consumer of replies was cancelled".into())
    }
}
