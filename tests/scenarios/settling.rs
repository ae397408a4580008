//! Settling deliveries: ack, nack, reject, recover.

use super::prelude::*;

/// Gets three messages of a queue.
#[either]
async fn three(channel: &Channel, queue: &str) -> Outcome<[Delivery; 3]> {
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(channel.get(queue).await?.ok_or_else(|| Failure::new("the queue is empty"))?);
    }
    deliveries.try_into().map_err(|_| Failure::new("not three deliveries"))
}

#[scenario]
async fn acked_messages_are_not_requeued(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1", "2", "3"]).await?;
    let [_, second, _] = three(&channel, queue.name()).await?;
    second.ack()?;
    channel.close().await?;
    let mut consumer = queue.consume().start().await?;
    let first = consumer.next().await.expect("the consumer is active")?;
    let third = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&first), body(&third)), ("1", "3"));
    assert!(first.redelivered() && third.redelivered());
    Ok(())
}

#[scenario]
async fn a_multiple_ack_settles_all_earlier_deliveries(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1", "2", "3"]).await?;
    let [first, second, third] = three(&channel, queue.name()).await?;
    second.ack_multiple()?;
    let error = refused(first.ack())?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    third.nack(true)?;
    let third = channel.get(queue.name()).await?.expect("the channel is open");
    assert_eq!(body(&third), "3");
    channel.close().await?;
    let mut consumer = queue.consume().start().await?;
    let back = consumer.next().await.expect("the consumer is active")?;
    assert_eq!(body(&back), "3");
    t.expect_ready(&owner, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn a_multiple_nack_requeues_all_earlier_deliveries(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let [first, second, _] = three(&channel, queue.name()).await?;
    second.nack_multiple(true)?;
    assert_eq!(refused(first.reject(true))?.kind(), ErrorKind::Usage);
    assert_eq!(body(&queue.get().await?.expect("the message is requeued")), "1");
    assert_eq!(body(&queue.get().await?.expect("the message is requeued")), "2");
    assert!(queue.get().await?.is_none());
    Ok(())
}

#[scenario]
async fn a_requeued_message_is_marked_as_redelivered(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut consumer = queue.consume().start().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert!(!delivery.redelivered());
    delivery.nack(true)?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert!(delivery.redelivered());
    delivery.reject(true)?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert!(delivery.redelivered());
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_nack_without_requeue_drops_the_messages(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let [first, second, third] = three(&channel, queue.name()).await?;
    first.nack(false)?;
    second.reject(false)?;
    third.nack(true)?;
    assert_eq!(body(&queue.get().await?.expect("the message is requeued")), "3");
    assert!(queue.get().await?.is_none());
    Ok(())
}

#[scenario]
async fn acks_from_before_recover_are_refused_and_the_channel_stays_open(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let before = queue.get().await?.expect("the message is confirmed");
    channel.recover().await?;
    let after = queue.get().await?.expect("the message is requeued");
    assert!(after.redelivered());
    let error = refused(before.ack())?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    after.ack()?;
    t.expect_ready(&channel, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn acks_on_a_closed_channel_fail(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1", "2"]).await?;
    let first = channel.get(queue.name()).await?.expect("the message is confirmed");
    let second = channel.get(queue.name()).await?.expect("the message is confirmed");
    channel.close().await?;
    assert_eq!(refused(first.ack())?.kind(), ErrorKind::Closed);
    let reused = connection.channel().await?;
    assert_eq!(reused.id(), channel.id());
    let mut consumer = reused.consume(queue.name()).start().await?;
    let third = consumer.next().await.expect("both messages are requeued")?;
    assert_eq!(
        refused(second.ack())?.kind(),
        ErrorKind::Closed,
        "the ack must not settle the delivery on the new channel"
    );
    third.ack()?;
    Ok(())
}

#[scenario]
async fn a_delivery_splits_into_the_message_and_its_acker(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["work"]).await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    let tag = delivery.delivery_tag();
    let (message, acker) = delivery.split();
    assert_eq!(acker.delivery_tag(), tag);
    assert_eq!(&message.into_body()[..], b"work");
    acker.ack()?;
    assert_eq!(channel.connection().stats().acked, 1);
    Ok(())
}
