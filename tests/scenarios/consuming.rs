//! Consumers: who gets which messages, and how they end.

use super::prelude::*;

/// The bodies of the next `count` deliveries, none of which is acked.
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
async fn deliveries_come_in_the_order_of_the_publishes(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().prefetch(0).start().await?;
    for index in 0..2000 {
        queue.publish(format!("{index}")).send().await?;
    }
    for index in 0..2000 {
        let delivery = consumer.next().await.expect("the consumer goes on")?;
        assert_eq!((body(&delivery), delivery.delivery_tag()), (&*index.to_string(), index + 1));
        assert_eq!((delivery.consumer_tag(), delivery.redelivered()), (consumer.tag(), false));
        assert_eq!(delivery.message_count(), None);
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn a_prefetch_bounds_what_is_under_way(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    let mut consumer = queue.consume().prefetch(2).start().await?;
    let first = consumer.next().await.expect("the consumer goes on")?;
    let second = consumer.next().await.expect("the consumer goes on")?;
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
async fn the_channels_prefetch_counts_for_consumers_that_say_nothing_else(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    channel.prefetch(2).await?;
    let mut consumer = queue.consume().start().await?;
    assert_eq!(bodies(&mut consumer, 2).await?, ["1", "2"]);
    t.expect_ready(&channel, queue.name(), 3).await?;
    Ok(())
}

#[scenario]
async fn a_shared_prefetch_bounds_all_consumers_of_the_channel_together(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3", "4", "5"]).await?;
    channel.prefetch_shared(3).await?;
    let mut one = queue.consume().prefetch(2).start().await?;
    let mut two = queue.consume().prefetch(2).start().await?;
    bodies(&mut one, 2).await?;
    bodies(&mut two, 1).await?;
    t.expect_ready(&channel, queue.name(), 2).await?;
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
async fn without_acks_messages_are_gone_when_they_are_sent(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2"]).await?;
    let other = connection.channel().await?;
    let mut consumer = other.consume(queue.name()).no_ack().start().await?;
    let delivery = consumer.next().await.expect("the consumer goes on")?;
    delivery.ack()?;
    bodies(&mut consumer, 1).await?;
    other.close().await?;
    t.expect_ready(&channel, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn an_exclusive_consumer_lets_nobody_else_in(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let (channel, other) = (connection.channel().await?, connection.channel().await?);
    let queue = t.queue_with(&channel, &["for the first"]).await?;
    let mut consumer = queue.consume().exclusive().start().await?;
    let error = refused(other.consume(queue.name()).start().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
    assert_eq!(bodies(&mut consumer, 1).await?, ["for the first"]);
    Ok(())
}

#[scenario]
async fn consuming_from_a_queue_that_is_not_there_is_404(t: Test) -> Outcome {
    let error = refused(t.channel().await?.consume(&t.name("missing")).start().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    Ok(())
}

#[scenario]
async fn a_consumer_has_the_tag_that_it_is_given_or_one_of_its_own(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut named = queue.consume().tag("my consumer").start().await?;
    assert_eq!(named.tag(), "my consumer");
    let delivery = named.next().await.expect("the consumer goes on")?;
    assert_eq!(delivery.consumer_tag(), "my consumer");
    let (one, two) = (queue.consume().start().await?, queue.consume().start().await?);
    assert_ne!(one.tag(), two.tag());
    let error = refused(queue.consume().tag("my consumer").start().await)?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn consumers_of_higher_priority_get_messages_first(t: Test) -> Outcome {
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
    let first = consumer.next().await.expect("the consumer goes on")?;
    consumer.cancel().await?;
    queue.publish("4").confirm().await?;
    assert_eq!(bodies(&mut consumer, 2).await?, ["2", "3"]);
    assert!(consumer.next().await.is_none());
    assert!(consumer.next().await.is_none());
    first.ack()?;
    assert_eq!(body(&queue.get().await?.expect("nobody consumes any more")), "4");
    Ok(())
}

#[scenario]
async fn the_broker_cancels_consumers_of_a_queue_that_is_deleted(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let (channel, other) = (connection.channel().await?, connection.channel().await?);
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut consumer = queue.consume().start().await?;
    bodies(&mut consumer, 1).await?;
    other.queue_delete(queue.name()).delete().await?;
    let error = refused(consumer.next().await.expect("the reason comes first"))?;
    assert_eq!(error.kind(), ErrorKind::ConsumerCancelled, "{error}");
    assert!(consumer.next().await.is_none());
    assert!(channel.is_open(), "the channel goes on");
    Ok(())
}

#[scenario]
async fn a_dropped_consumer_gives_back_what_it_has_not_handed_out(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let mut consumer = queue.consume().start().await?;
    let first = consumer.next().await.expect("the consumer goes on")?;
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
    let error = refused(consumer.next().await.expect("the reason comes first"))?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    assert!(consumer.next().await.is_none());
    Ok(())
}

#[scenario]
async fn a_consumer_does_not_notice_what_happens_to_other_channels(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let (channel, other) = (connection.channel().await?, connection.channel().await?);
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    refused(other.queue(&t.name("missing")).declare_passive().await)?;
    queue.publish("still here").confirm().await?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["still here"]);
    Ok(())
}

#[scenario]
async fn a_get_says_how_many_messages_are_left(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2"]).await?;
    let first = queue.get().await?.expect("there are two");
    assert_eq!((body(&first), first.message_count(), first.consumer_tag()), ("1", Some(1), ""));
    let second = channel.get_no_ack(queue.name()).await?.expect("there is one");
    assert_eq!((body(&second), second.message_count()), ("2", Some(0)));
    assert!(queue.get().await?.is_none());
    first.nack(true)?;
    second.nack(true)?;
    let again = queue.get().await?.expect("the first came back, the second needed no ack");
    assert_eq!((body(&again), again.redelivered()), ("1", true));
    Ok(())
}

#[scenario]
async fn a_consumer_is_cancelled_by_its_tag_from_elsewhere(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut consumer = queue.consume().tag("mine").start().await?;
    assert_eq!(bodies(&mut consumer, 1).await?, ["1"]);
    channel.cancel("mine").await?;
    assert!(consumer.next().await.is_none());
    let error = channel.cancel("nobody").await.expect_err("there is no such consumer");
    assert_eq!(error.kind(), ErrorKind::Usage);
    Ok(())
}
