//! A queue as a test sees it, and what a test asserts of it.

use std::fmt::Write as _;
use std::time::Duration;

use hopmq::{Connection, Message};
use hopmq_broker::Broker;
use serde::de::DeserializeOwned;

use super::TestApp;
use super::message::TestMessage;
use super::world::Place;

/// How long an assertion waits on a real broker for what should come.
const LONGEST: Duration = Duration::from_secs(10);

/// A queue of the broker: returned by [`TestApp::queue`] and [`TestApp::tap`].
///
/// On a real broker, reading takes the messages and gives them back, which marks them as redelivered; and assertions
/// wait up to ten seconds for the messages that they expect.
#[derive(Clone, Debug)]
pub struct TestQueue<'t> {
    pub(super) test: &'t TestApp,
    pub(super) name: String,
}

/// How many messages are in a queue.
pub(super) struct Count {
    pub(super) ready: usize,
    /// Messages that a handler works on, or that wait for their delayed retry.
    pub(super) elsewhere: usize,
    pub(super) consumers: usize,
}

/// What is in a queue.
struct Found {
    messages: Vec<TestMessage>,
    elsewhere: usize,
}

impl TestQueue<'_> {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the messages that wait in the queue, the next one first; none if there is no such queue.
    pub fn messages(&self) -> Vec<TestMessage> {
        self.find().map_or_else(Vec::new, |found| found.messages)
    }

    /// Asserts that exactly one message waits in the queue, and reads its body as JSON.
    ///
    /// # Panics
    /// If there is none or more than one, or its body is not the JSON of `T`. The message lists what is in the queue.
    #[track_caller]
    pub fn assert_one<T: DeserializeOwned>(&self) -> (T, TestMessage) {
        let message = self.assert_len(1).remove(0);
        (message.json(), message)
    }

    /// Asserts that this many messages wait in the queue.
    ///
    /// # Panics
    /// If there are fewer or more. The message lists what is in the queue.
    #[track_caller]
    pub fn assert_len(&self, count: usize) -> Vec<TestMessage> {
        // Reading counts as a delivery on a real broker, which limits those: the messages are read once.
        self.test.world.until(self.patience(LONGEST), || self.count().is_some_and(|found| found.ready == count));
        match self.find() {
            Some(found) if found.messages.len() == count => found.messages,
            found => panic!("expected {} in the queue '{}', {}", number(count), self.name, self.describe(found)),
        }
    }

    /// Asserts that the queue exists and that no message is in it: none waits, and none is with a handler.
    ///
    /// # Panics
    /// If there is one. The message lists what is in the queue.
    #[track_caller]
    pub fn assert_empty(&self) {
        let empty = || self.count().is_some_and(|count| count.ready + count.elsewhere == 0);
        if !self.test.world.until(self.patience(LONGEST), empty) {
            panic!("expected no message in the queue '{}', {}", self.name, self.describe(self.find()));
        }
    }

    /// On the embedded broker, everything that is due has happened: only a real one needs time.
    fn patience(&self, longest: Duration) -> Duration {
        if self.test.world.broker().is_some() { Duration::ZERO } else { longest }
    }

    /// Returns the counts, or `None` if there is no such queue.
    pub(super) fn count(&self) -> Option<Count> {
        match &self.test.world.place {
            Place::Embedded(broker) => broker.inspect().queue(&self.name).map(|queue| Count {
                ready: queue.ready,
                elsewhere: queue.unacked + queue.delayed,
                consumers: queue.consumers,
            }),
            Place::Real(_) => self.test.block_on(counted(&self.test.connection, &self.name)),
        }
    }

    fn find(&self) -> Option<Found> {
        match &self.test.world.place {
            Place::Embedded(broker) => embedded(broker, &self.name),
            Place::Real(_) => self.test.block_on(real(&self.test.connection, &self.name)),
        }
    }

    fn describe(&self, found: Option<Found>) -> String {
        let mut text = String::new();
        match found {
            None => {
                text.push_str("which does not exist");
                if let Some(broker) = self.test.broker() {
                    let names: Vec<_> = broker.inspect().queues().into_iter().map(|queue| queue.name).collect();
                    let _ = write!(text, ". The queues are: {}", names.join(", "));
                }
            }
            Some(found) => {
                let _ = write!(text, "found {}", number(found.messages.len()));
                for (index, message) in found.messages.iter().take(20).enumerate() {
                    let _ = write!(text, "\n  {}. {message:?}", index + 1);
                }
                if found.messages.len() > 20 {
                    let _ = write!(text, "\n  … and {} more", found.messages.len() - 20);
                }
                if found.elsewhere > 0 {
                    let _ = write!(text, "\n  and {} with a handler or delayed", number(found.elsewhere));
                }
            }
        }
        text + &self.test.story(&self.name)
    }
}

fn number(count: usize) -> String {
    match count {
        0 => "no message".to_owned(),
        1 => "one message".to_owned(),
        _ => format!("{count} messages"),
    }
}

fn embedded(broker: &Broker, name: &str) -> Option<Found> {
    let inspect = broker.inspect();
    let queue = inspect.queue(name)?;
    let messages = inspect.ready(name).into_iter().filter_map(|message| {
        // What was published once fits into a message again.
        Message::new(&message.exchange, &message.routing_key, &message.properties, &message.body).ok()
    });
    Some(Found { messages: messages.map(TestMessage).collect(), elsewhere: queue.unacked + queue.delayed })
}

async fn counted(connection: &Connection, name: &str) -> Option<Count> {
    let channel = connection.channel().await.unwrap_or_else(|error| panic!("can't look at a queue: {error}"));
    match channel.queue(name).declare_passive().await {
        Ok(queue) => {
            let count = Count {
                ready: queue.message_count() as usize,
                elsewhere: 0,
                consumers: queue.consumer_count() as usize,
            };
            channel.close().await.ok();
            Some(count)
        }
        Err(error) if error.code() == Some(404) => None,
        Err(error) => panic!("can't look at the queue '{name}': {error}"),
    }
}

/// Takes all messages, and gives them back by closing the channel that took them.
async fn real(connection: &Connection, name: &str) -> Option<Found> {
    let channel = connection.channel().await.unwrap_or_else(|error| panic!("can't read a queue: {error}"));
    let mut messages = Vec::new();
    loop {
        match channel.get(name).await {
            // The close of the channel settles it.
            Ok(Some(delivery)) => messages.push(TestMessage(delivery.split().0)),
            Ok(None) => break,
            Err(error) if error.code() == Some(404) => return None,
            Err(error) => panic!("can't read the queue '{name}': {error}"),
        }
    }
    channel.close().await.unwrap_or_else(|error| panic!("can't give back what was read: {error}"));
    Some(Found { messages, elsewhere: 0 })
}
