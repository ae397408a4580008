//! RPC: a client asks over a queue, a server answers.
//!
//! ```sh
//! cargo run --example blocking_rpc
//! ```
//!
//! RabbitMQ's sixth tutorial (<https://www.rabbitmq.com/tutorials>), with
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to) in place of a queue for the answers.

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
    let questions = queue.consume().prefetch(1).start()?;
    let server = thread::spawn(|| serve(questions, channel));

    let mut client = Client::new(connection.channel()?)?;
    for n in [5, 10, 30] {
        println!("fibonacci({n}) = {}", client.fibonacci(n)?);
    }

    // Without its queue the server ends, with an error that says why.
    queue.delete().delete()?;
    match server.join() {
        Ok(Err(error)) if error.kind() == ErrorKind::ConsumerCancelled => println!("the server ended: {error}"),
        Ok(result) => result?,
        Err(_) => println!("the server panicked"),
    }

    // And a question comes back. So nobody waits for an answer that can't come.
    match client.fibonacci(40) {
        Err(error) => println!("without a server: {error}"),
        Ok(answer) => println!("an answer from nowhere: {answer}"),
    }
    Ok(connection.close()?)
}

fn serve(questions: Consumer, channel: Channel) -> Result<()> {
    for question in questions {
        let question = question?;
        let answer = match question.text().parse() {
            Ok(n) => fibonacci(n).to_string(),
            Err(error) => format!("not a number: {error}"),
        };
        // Where to answer, and which question it was, the client has said in the properties.
        let properties = question.properties();
        if let Some(reply_to) = properties.reply_to() {
            let id = properties.correlation_id().unwrap_or_default();
            channel.publish("", reply_to, answer).correlation_id(id).send()?;
        }
        question.ack()?;
    }
    Ok(())
}

fn fibonacci(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

struct Client {
    channel: Channel,
    answers: Consumer,
    asked: u32,
}

impl Client {
    fn new(channel: Channel) -> Result<Self> {
        // A queue that is not one: the broker hands answers over straight away. It wants no acknowledgements.
        let answers = channel.consume("amq.rabbitmq.reply-to").no_ack().start()?;
        Ok(Self { channel, answers, asked: 0 })
    }

    fn fibonacci(&mut self, n: u32) -> Result<u64, Box<dyn Error>> {
        self.asked += 1;
        let id = self.asked.to_string();
        self.channel
            .publish("", QUEUE, n.to_string())
            .reply_to("amq.rabbitmq.reply-to")
            .correlation_id(&id)
            .mandatory()
            .confirm()?;
        for answer in self.answers.iter_within(Duration::from_secs(10)) {
            let answer = answer?;
            // An answer to an earlier question, which we had given up, is not ours.
            if answer.properties().correlation_id() == Some(&id) {
                return Ok(answer.text().parse()?);
            }
        }
        Err("no answer came for ten seconds".into())
    }
}
