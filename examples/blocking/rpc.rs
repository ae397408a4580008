//! RPC: a client sends requests through a queue, and a server replies.
//!
//! ```sh
//! cargo run --example blocking_rpc
//! ```
//!
//! RabbitMQ's sixth tutorial (<https://www.rabbitmq.com/tutorials>), with
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to) in place of a queue for the replies.

use std::error::Error;
use std::thread;
use std::time::Duration;

use hopmq_blocking::{Channel, Connection, Consumer, ErrorKind, Result};

const QUEUE: &str = "blocking-fibonacci";

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;
    let queue = channel.queue(QUEUE).durable().declare()?;
    let requests = queue.consume().prefetch(1).start()?;
    let server = thread::spawn(|| serve(requests, channel));

    let mut client = Client::new(connection.channel()?)?;
    for n in [5, 10, 30] {
        println!("fibonacci({n}) = {}", client.fibonacci(n)?);
    }

    // Deleting the queue ends the server's consumer, with an error that says why.
    queue.delete().delete()?;
    match server.join() {
        Ok(Err(error)) if error.kind() == ErrorKind::ConsumerCancelled => println!("the server ended: {error}"),
        Ok(result) => result?,
        Err(_) => println!("the server panicked"),
    }

    // Without the queue, the broker returns a request, so the client does not wait for a reply that can't come.
    match client.fibonacci(40) {
        Err(error) => println!("without a server: {error}"),
        Ok(reply) => println!("unexpected reply: {reply}"),
    }
    Ok(connection.close()?)
}

fn serve(requests: Consumer, channel: Channel) -> Result<()> {
    for request in requests {
        let request = request?;
        let reply = match request.text().parse() {
            Ok(n) => fibonacci(n).to_string(),
            Err(error) => format!("not a number: {error}"),
        };
        // The properties say where to send the reply, and to which request it belongs.
        let properties = request.properties();
        if let Some(reply_to) = properties.reply_to() {
            let id = properties.correlation_id().unwrap_or_default();
            channel.publish("", reply_to, reply).correlation_id(id).send()?;
        }
        request.ack()?;
    }
    Ok(())
}

fn fibonacci(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

struct Client {
    channel: Channel,
    replies: Consumer,
    sent: u32,
}

impl Client {
    fn new(channel: Channel) -> Result<Self> {
        // A pseudo-queue: the broker passes replies on without storing them, and wants no acknowledgements.
        let replies = channel.consume("amq.rabbitmq.reply-to").no_ack().start()?;
        Ok(Self { channel, replies, sent: 0 })
    }

    fn fibonacci(&mut self, n: u32) -> Result<u64, Box<dyn Error>> {
        self.sent += 1;
        let id = self.sent.to_string();
        self.channel
            .publish("", QUEUE, n.to_string())
            .reply_to("amq.rabbitmq.reply-to")
            .correlation_id(&id)
            .mandatory()
            .confirm()?;
        for reply in self.replies.iter_within(Duration::from_secs(10)) {
            let reply = reply?;
            // Skip a late reply to an earlier request that timed out.
            if reply.properties().correlation_id() == Some(&id) {
                return Ok(reply.text().parse()?);
            }
        }
        Err("no reply within 10 s".into())
    }
}
