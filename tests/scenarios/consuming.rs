//! Consumers: which of them receives a message, and how they end.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Returns the bodies of the next `count` deliveries, without acks.
#[either]
async fn bodies(consumer: &mut Consumer, count: usize) -> Outcome<Vec<String>> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let delivery = consumer.next().await.ok_or_else(|| Failure::new("the consumer ended"))??;
        bodies.push(body(&delivery).to_owned());
    }
    Ok(bodies)
}

#[scenario]
async fn deliveries_arrive_in_the_order_of_the_publishes(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().prefetch(0).start().await?;
    for index in 0..2000 {
        queue.publish(format!("{index}")).send().await?;
    }
    for index in 0..2000 {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!((body(&delivery), delivery.delivery_tag()), (&*index.to_string(), index + 1));
        assert_eq!((delivery.consumer_tag(), delivery.redelivered()), (consumer.tag(), false));
        assert_eq!(delivery.message_count(), None);
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn a_prefetch_limits_the_unacked_deliveries(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    let mut consumer = queue.consume().prefetch(2).start().await?;
    let first = consumer.next().await.expect("the consumer is active")?;
    let second = consumer.next().await.expect("the consumer is active")?;
    t.expect_ready(&channel, queue.name(), 3).await?;
    first.ack()?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["3"]);
    t.expect_ready(&channel, queue.name(), 2).await?;
    second.ack_multiple()?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["4"]);
    t.expect_ready(&channel, queue.name(), 1).await?;
    Ok(())
}

#[scenario]
async fn the_prefetch_of_the_channel_is_the_default_of_its_consumers(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    channel.prefetch(2).await?;
    let mut consumer = queue.consume().start().await?;
    assert_eq!(bodies(&mut consumer, 2).await?, ["1", "2"]);
    t.expect_ready(&channel, queue.name(), 3).await?;
    Ok(())
}

#[scenario]
async fn a_shared_prefetch_limits_all_consumers_of_the_channel_together(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    channel.prefetch_shared(3).await?;
    let mut one = queue.consume().prefetch(2).start().await?;
    let mut two = queue.consume().prefetch(2).start().await?;
    // Since 4.3 a channel's prefetch is one for each consumer, in place of the consumer's own.
    let (first, second) = if release() >= Release::V4_3 { (3, 2) } else { (2, 1) };
    bodies(&mut one, first).await?;
    bodies(&mut two, second).await?;
    t.expect_ready(&channel, queue.name(), 5 - (first + second) as u32).await?;
    Ok(())
}

#[scenario]
async fn two_consumers_share_a_queue(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut one = queue.consume().prefetch(2).start().await?;
    let mut two = queue.consume().prefetch(2).start().await?;
    for body in ["1", "2", "3", "4"] {
        queue.publish(body).confirm().await?;
    }
    let mut all = bodies(&mut one, 2).await?;
    all.extend(bodies(&mut two, 2).await?);
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4"]);
    Ok(())
}

#[scenario]
async fn without_acks_messages_are_removed_when_they_are_sent(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2"]).await?;
    let other = connection.channel().await?;
    let mut consumer = other.consume(queue.name()).no_ack().start().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    delivery.ack()?;
    bodies(&mut consumer, 1).await?;
    other.close().await?;
    t.expect_ready(&channel, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn an_exclusive_consumer_excludes_other_consumers(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&channel, &["for the first"]).await?;
    let mut consumer = queue.consume().exclusive().start().await?;
    let error = refused(other.consume(queue.name()).start().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
    assert_eq!(bodies(&mut consumer, 1).await?, ["for the first"]);
    Ok(())
}

#[scenario]
async fn consuming_from_a_missing_queue_fails_with_404(t: Test) -> Outcome {
    let error = refused(t.channel().await?.consume(&t.name("missing")).start().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    Ok(())
}

#[scenario]
async fn a_consumer_has_the_chosen_tag_or_a_unique_one(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut named = queue.consume().tag("my consumer").start().await?;
    assert_eq!(named.tag(), "my consumer");
    let delivery = named.next().await.expect("the consumer is active")?;
    assert_eq!(delivery.consumer_tag(), "my consumer");
    let one = queue.consume().start().await?;
    let two = queue.consume().start().await?;
    assert_ne!(one.tag(), two.tag());
    let error = refused(queue.consume().tag("my consumer").start().await)?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn consumers_of_higher_priority_receive_messages_first(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut low = queue.consume().priority(-1).start().await?;
    let mut high = queue.consume().priority(10).prefetch(2).start().await?;
    for body in ["1", "2", "3"] {
        queue.publish(body).confirm().await?;
    }
    assert_eq!(bodies(&mut high, 2).await?, ["1", "2"]);
    assert_eq!(bodies(&mut low, 1).await?, ["3"]);
    Ok(())
}

#[scenario]
async fn a_cancelled_consumer_yields_what_was_delivered_and_ends(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let mut consumer = queue.consume().start().await?;
    let first = consumer.next().await.expect("the consumer is active")?;
    consumer.cancel().await?;
    queue.publish("4").confirm().await?;
    assert_eq!(bodies(&mut consumer, 2).await?, ["2", "3"]);
    assert!(consumer.next().await.is_none());
    assert!(consumer.next().await.is_none());
    first.ack()?;
    assert_eq!(body(&queue.get().await?.expect("the consumer is cancelled")), "4");
    Ok(())
}

#[scenario]
async fn the_broker_cancels_consumers_of_a_queue_that_is_deleted(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut consumer = queue.consume().start().await?;
    bodies(&mut consumer, 1).await?;
    other.queue_delete(queue.name()).delete().await?;
    let error = refused(consumer.next().await.expect("the reason arrives first"))?;
    assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
    assert!(consumer.next().await.is_none());
    assert!(channel.is_open(), "the channel stays open");
    Ok(())
}

#[scenario]
async fn a_dropped_consumer_requeues_its_undelivered_messages(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let mut consumer = queue.consume().start().await?;
    let first = consumer.next().await.expect("the consumer is active")?;
    drop(consumer);
    let mut next = queue.consume().start().await?;
    assert_eq!(bodies(&mut next, 2).await?, ["2", "3"]);
    first.ack()?;
    drop(next);
    queue.publish("4").confirm().await?;
    channel.queue_purge(queue.name()).await?;
    Ok(())
}

#[scenario]
async fn a_consumer_ends_with_the_reason_of_its_channel(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    refused(channel.queue(&t.name("missing")).declare_passive().await)?;
    let error = refused(consumer.next().await.expect("the reason arrives first"))?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    assert!(consumer.next().await.is_none());
    Ok(())
}

#[scenario]
async fn the_end_of_another_channel_does_not_affect_a_consumer(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    refused(other.queue(&t.name("missing")).declare_passive().await)?;
    queue.publish("still here").confirm().await?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["still here"]);
    Ok(())
}

#[scenario]
async fn a_get_returns_how_many_messages_are_left(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2"]).await?;
    let first = queue.get().await?.expect("two messages are left");
    assert_eq!((body(&first), first.message_count(), first.consumer_tag()), ("1", Some(1), ""));
    let second = channel.get_no_ack(queue.name()).await?.expect("one message is left");
    assert_eq!((body(&second), second.message_count()), ("2", Some(0)));
    assert!(queue.get().await?.is_none());
    first.nack(true)?;
    second.nack(true)?;
    let again = queue.get().await?.expect("the first message is requeued, the second needed no ack");
    assert_eq!((body(&again), again.redelivered()), ("1", true));
    Ok(())
}

#[scenario]
async fn a_consumer_may_be_cancelled_by_its_tag(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut consumer = queue.consume().tag("mine").start().await?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["1"]);
    channel.cancel("mine").await?;
    assert!(consumer.next().await.is_none());
    let error = channel.cancel("unknown").await.expect_err("the tag is unknown");
    assert_eq!(error.kind(), ErrorKind::Usage);
    Ok(())
}
