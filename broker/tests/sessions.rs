//! Whole sessions of real clients: in process, over TCP, and on a manual clock with a broker that the test polls.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_lite::StreamExt;
use futures_lite::future::{block_on, zip};
use hopmq::{Connection, IoTimer};
use hopmq_broker::{Broker, Clock};

async fn session(connection: &Connection) -> hopmq::Result<()> {
    let channel = connection.channel().await?;
    for (kind, key, other) in [("direct", "a.b", "a.c"), ("fanout", "", ""), ("topic", "a.*", "b.b"), ("", "", "")] {
        let queue = channel.queue("").exclusive().declare().await?;
        let exchange = if kind.is_empty() { String::new() } else { format!("amq.{kind}") };
        let routing_key = if kind.is_empty() { queue.name() } else { "a.b" };
        if !kind.is_empty() {
            queue.bind(&exchange, key).await?;
        }
        channel.publish(&exchange, routing_key, "in").confirm().await?;
        if !other.is_empty() {
            channel.publish(&exchange, other, "elsewhere").confirm().await?;
        }
        let mut consumer = queue.consume().await?;
        let delivery = consumer.try_next().await?.expect("the consumer is open");
        assert_eq!(delivery.body(), b"in", "{kind}");
        delivery.ack()?;
        assert_eq!(channel.queue(queue.name()).declare_passive().await?.message_count(), 0);
    }
    connection.close().await
}

#[test]
fn a_session_in_process() {
    let broker = Broker::in_memory();
    block_on(async {
        let (connection, driver) = Connection::builder().handshake(broker.connect(), IoTimer::new()).await.unwrap();
        let ((), result) = zip(driver, session(&connection)).await;
        result.unwrap();
    });
}

#[test]
fn a_session_over_tcp() {
    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    block_on(async {
        let connection = Connection::open(&format!("amqp://guest:guest@{address}/%2f")).await.unwrap();
        session(&connection).await.unwrap();
    });
}

/// A client's timer on the broker's manual clock. It registers no waker, for the test polls in a loop.
struct ManualTimer(Clock);

impl hopmq::Timer for ManualTimer {
    fn clock(&self) -> hopmq::Clock {
        let clock = self.0.clone();
        hopmq::Clock::new(move || clock.now())
    }

    fn poll_until(&mut self, deadline: hopmq::Time, _: &mut Context<'_>) -> Poll<()> {
        if self.0.now() >= deadline { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn a_session_on_a_manual_clock_depends_on_the_seed_only() {
    let names = [1, 1, 2].map(|seed| {
        let clock = Clock::manual();
        let broker = Broker::builder().clock(&clock).seed(seed).by_hand();
        let work = async {
            let builder = Connection::builder();
            let (connection, driver) = builder.handshake(broker.connect(), ManualTimer(clock.clone())).await?;
            let work = async {
                let name = connection.channel().await?.queue("").exclusive().declare().await?.name().to_owned();
                session(&connection).await?;
                Ok::<_, hopmq::Error>(name)
            };
            zip(driver, work).await.1
        };
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            if let Poll::Ready(name) = work.as_mut().poll(&mut context) {
                return name.unwrap();
            }
            while broker.tick() {}
        }
        panic!("the session hangs")
    });
    assert!(names[0] == names[1] && names[0] != names[2], "{names:?}");
}
