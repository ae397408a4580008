//! What every door does, in one text: see `hopmq_tests_macros`.
//!
//! A scenario is an `async fn` whose name is the sentence that it proves. It takes connections, channels and names
//! from [`Test`], and leaves the deadline and the cleaning up to the harness.

mod arguments;
mod channels;
mod confirming;
mod connections;
mod consuming;
mod exchanges;
mod login;
mod publishing;
mod queues;
mod rabbitmq;
mod settling;
mod transactions;

use hopmq_tests::{Harness, Outcome, broker};
use hopmq_tests_macros::either;

use crate::door::{Builder, Channel, Connection, Door, Queue, Result};

/// What most scenarios use.
pub(crate) mod prelude {
    pub(crate) use std::time::Duration;

    pub(crate) use hopmq_tests::{Failure, Outcome, broker};
    pub(crate) use hopmq_tests_macros::{either, scenario};

    pub(crate) use super::{Test, body, refused};
    pub(crate) use crate::door::*;
}

/// What a scenario has: a broker to connect to, by the door that it runs through, and names of its own.
#[derive(Clone)]
pub(crate) struct Test {
    pub(crate) harness: Harness,
    pub(crate) door: Door,
}

#[either]
impl Test {
    /// A name that nobody else uses; a queue or exchange of that name is deleted in the end.
    pub(crate) fn name(&self, stem: &str) -> String {
        self.harness.name(stem)
    }

    /// The settings of [`Test::connect`].
    pub(crate) fn builder(&self) -> Builder {
        Connection::builder().uri(&broker().amqp).connection_name(self.harness.scenario())
    }

    /// Connects.
    pub(crate) async fn open(&self, builder: &Builder) -> Result<Connection> {
        self.door.open(builder).await
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.open(&self.builder()).await
    }

    /// A channel of a connection of its own.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        self.connect().await?.channel().await
    }

    /// A queue of its own with these messages in it.
    pub(crate) async fn queue_with(&self, channel: &Channel, bodies: &[&str]) -> Outcome<Queue> {
        let queue = channel.queue(&self.name("queue")).exclusive().declare().await?;
        for body in bodies {
            queue.publish(*body).confirm().await?;
        }
        Ok(queue)
    }

    /// Lets the broker run low on memory, until the answer is dropped.
    pub(crate) async fn memory_alarm(&self) -> Outcome<hopmq_tests::Alarm> {
        self.unblock(hopmq_tests::Alarm::raise).await
    }

    /// Waits until so many messages of a queue wait for a consumer. RabbitMQ answers a passive declare before what the
    /// queue was sent earlier, so the first answer may be an old one; a scenario's deadline ends the asking.
    pub(crate) async fn expect_ready(&self, channel: &Channel, queue: &str, messages: u32) -> Outcome {
        while self.ready(channel, queue).await? != messages {}
        Ok(())
    }

    /// How many messages of a queue wait for a consumer, as far as the broker has counted.
    pub(crate) async fn ready(&self, channel: &Channel, queue: &str) -> Result<u32> {
        Ok(channel.queue(queue).declare_passive().await?.message_count())
    }
}

/// The body of a message as text.
pub(crate) fn body(message: &crate::door::Message) -> &str {
    std::str::from_utf8(message.body()).unwrap_or("not UTF-8")
}

/// The error that had to come.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T>) -> Outcome<crate::door::Error> {
    match result {
        Ok(_) => Err(hopmq_tests::Failure::new("this should have been refused")),
        Err(error) => Ok(error),
    }
}
