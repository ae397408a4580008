//! Scenarios that run through every client API, written once: see `hopmq_tests_macros`.
//!
//! A scenario is an `async fn` whose name states what it proves. It gets connections, channels and names from [`Test`];
//! the harness enforces the deadline and cleans up.

mod arguments;
mod batching;
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

use crate::api::{Api, Builder, Channel, Connection, Queue, Result};

/// The imports of most scenarios.
pub(crate) mod prelude {
    pub(crate) use std::time::Duration;

    pub(crate) use hopmq_tests::{Failure, Outcome, broker};
    pub(crate) use hopmq_tests_macros::{either, scenario};

    pub(crate) use super::{Test, body, refused};
    pub(crate) use crate::api::*;
}

/// The context of a scenario: the harness, the client API that it runs through, and unique names.
#[derive(Clone)]
pub(crate) struct Test {
    pub(crate) harness: Harness,
    pub(crate) api: Api,
}

#[either]
impl Test {
    /// Returns a unique name. A queue or exchange of that name is deleted at the end.
    pub(crate) fn name(&self, stem: &str) -> String {
        self.harness.name(stem)
    }

    /// Returns the settings of [`Test::connect`].
    pub(crate) fn builder(&self) -> Builder {
        Connection::builder().uri(&broker().amqp).connection_name(self.harness.scenario())
    }

    /// Opens a connection with these settings.
    pub(crate) async fn open(&self, builder: &Builder) -> Result<Connection> {
        self.api.open(builder).await
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.open(&self.builder()).await
    }

    /// Opens a connection and a channel.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        self.connect().await?.channel().await
    }

    /// Declares an exclusive queue and publishes messages to it.
    pub(crate) async fn queue_with(&self, channel: &Channel, bodies: &[&str]) -> Outcome<Queue> {
        let queue = channel.queue(&self.name("queue")).exclusive().declare().await?;
        for body in bodies {
            queue.publish(*body).confirm().await?;
        }
        Ok(queue)
    }

    /// Raises a memory alarm at the broker, until the alarm is dropped.
    pub(crate) async fn memory_alarm(&self) -> Outcome<hopmq_tests::Alarm> {
        self.unblock(hopmq_tests::Alarm::raise).await
    }

    /// Polls until a queue has this many ready messages. The first replies may be outdated, because RabbitMQ may answer
    /// a passive declare before the queue handles earlier messages. The deadline of the scenario ends the polling.
    pub(crate) async fn expect_ready(&self, channel: &Channel, queue: &str, messages: u32) -> Outcome {
        while self.ready(channel, queue).await? != messages {}
        Ok(())
    }

    /// Returns how many ready messages a queue has, as far as the broker has counted.
    pub(crate) async fn ready(&self, channel: &Channel, queue: &str) -> Result<u32> {
        Ok(channel.queue(queue).declare_passive().await?.message_count())
    }
}

/// The body of a message as text.
pub(crate) fn body(message: &crate::api::Message) -> &str {
    std::str::from_utf8(message.body()).unwrap_or("not UTF-8")
}

/// Returns the error of a call that must fail.
#[track_caller]
pub(crate) fn refused<T, E>(result: std::result::Result<T, E>) -> Outcome<E> {
    match result {
        Ok(_) => Err(hopmq_tests::Failure::new("the call succeeded, but must fail")),
        Err(error) => Ok(error),
    }
}
