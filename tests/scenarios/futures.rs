//! Futures may be awaited later, in any order, or never. A dropped future leaves channel and connection usable.

use futures_lite::future::{poll_once, yield_now};

use crate::scenarios::prelude::*;

/// Checks that the channel works: replies match their requests, and confirms match their publishes.
async fn check_channel(t: &Test, channel: &Channel) -> Outcome {
    let queue = t.queue_with(channel, &["1", "2"]).await?;
    assert_eq!(channel.queue(queue.name()).declare_passive().await?.name(), queue.name());
    assert_eq!(queue.purge().await?, 2);
    assert!(queue.get().await?.is_none());
    Ok(())
}

#[scenario]
async fn requests_are_sent_immediately_and_awaited_in_any_order(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.name("queue");
    let exchange = t.name("exchange");
    let declared = channel.queue(&queue).durable().declare();
    let exchanged = channel.exchange(&exchange).fanout().declare();
    let bound = channel.queue_bind(&queue, &exchange, "", ());
    channel.publish(&exchange, "", "message").send().await?;
    let got = channel.get(&queue);
    let empty = channel.get(&queue);
    let purged = channel.queue_purge(&queue);
    let deleted = channel.queue_delete(&queue).delete();
    assert_eq!(deleted.await?, 0);
    assert_eq!(purged.await?, 0);
    assert!(empty.await?.is_none());
    assert_eq!(body(&got.await?.expect("the message was published before")), "message");
    bound.await?;
    assert_eq!(exchanged.await?.name(), exchange);
    assert_eq!(declared.await?.name(), queue);
    Ok(())
}

#[scenario]
async fn all_pipelined_requests_fail_with_the_error_of_the_first(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let fine = channel.queue(&t.name("queue")).exclusive().declare();
    let fault = channel.queue(&t.name("missing")).declare_passive();
    let after = channel.queue("").exclusive().declare();
    let consumer = channel.consume("any").start();
    assert_eq!(refused(after.await)?.code(), Some(404));
    assert_eq!(refused(consumer.await)?.code(), Some(404));
    assert_eq!(refused(fault.await)?.code(), Some(404));
    fine.await?;
    Ok(())
}

#[scenario]
async fn a_dropped_declare_is_still_carried_out(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    drop(channel.queue(&name).durable().declare());
    drop(channel.queue_purge(&name));
    channel.queue(&name).declare_passive().await?;
    check_channel(&t, &channel).await
}

#[scenario]
async fn a_dropped_request_that_fails_closes_only_its_channel(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    drop(channel.queue(&t.name("missing")).declare_passive());
    assert_eq!(refused(channel.queue("").exclusive().declare().await)?.code(), Some(404));
    check_channel(&t, &other).await
}

#[scenario]
async fn a_dropped_channel_is_closed_and_its_number_reused(t: Test) -> Outcome {
    let connection = t.open(&t.builder().channel_max(2)).await?;
    for _ in 0..20 {
        drop(connection.channel());
        poll_once(connection.channel()).await;
        // The number is free once the broker has closed the channel.
        let channel = loop {
            match connection.channel().await {
                Ok(channel) => break channel,
                Err(_) => yield_now().await,
            }
        };
        assert_eq!(channel.queue("").exclusive().declare().await?.message_count(), 0);
        channel.close().await?;
    }
    check_channel(&t, &connection.channel().await?).await
}

#[scenario]
async fn a_dropped_consume_loses_no_message(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    for _ in 0..10 {
        drop(queue.consume().start());
    }
    let mut consumer = queue.consume().start().await?;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        bodies.push(body(&delivery).to_owned());
        delivery.ack()?;
    }
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3"]);
    check_channel(&t, &channel).await
}

#[scenario]
async fn a_dropped_get_requeues_its_message(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    drop(queue.get());
    let mut consumer = queue.consume().start().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&delivery), delivery.redelivered()), ("1", true));
    delivery.ack()?;
    check_channel(&t, &channel).await
}

#[scenario]
async fn a_dropped_next_loses_no_delivery(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    for index in 0..100 {
        assert!(poll_once(consumer.next()).await.is_none());
        queue.publish(format!("{index}")).confirm().await?;
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!(body(&delivery), index.to_string());
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn a_dropped_publish_was_sent_completely_or_not_at_all(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    drop(queue.publish("never polled").send());
    drop(queue.publish("never polled").confirm());
    poll_once(queue.publish("polled").confirm()).await;
    poll_once(queue.publish("polled").send()).await;
    drop(poll_once(queue.publish("polled").confirm_later()).await);
    queue.publish("awaited").confirm().await?;
    for expected in ["polled", "polled", "polled", "awaited"] {
        assert_eq!(body(&queue.get().await?.expect("the messages were sent")), expected);
    }
    check_channel(&t, &channel).await
}

#[scenario]
async fn a_dropped_close_continues(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    drop(channel.close());
    check_channel(&t, &connection.channel().await?).await?;
    poll_once(connection.close()).await;
    poll_once(connection.closed()).await;
    assert_eq!(connection.closed().await.kind(), ErrorKind::Closed);
    Ok(())
}

#[scenario]
async fn a_dropped_connect_does_not_affect_other_connections(t: Test) -> Outcome {
    let builder = t.builder();
    for _ in 0..5 {
        let mut attempt = Box::pin(t.open(&builder));
        poll_once(&mut attempt).await;
    }
    check_channel(&t, &t.channel().await?).await
}

#[scenario]
async fn a_request_outlives_the_handles_of_its_connection(t: Test) -> Outcome {
    let watcher = t.channel().await?;
    let name = t.name("queue");
    let channel = t.channel().await?;
    let request = channel.queue(&name).durable().declare();
    drop(channel);
    // The request ends, whether the reply or the end of the channel arrives first.
    let _ = request.await;
    watcher.queue(&name).declare_passive().await?;
    Ok(())
}

#[scenario(alone)]
async fn a_publish_that_is_dropped_while_the_buffer_is_full_is_not_sent(t: Test) -> Outcome {
    let watcher = t.channel().await?;
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = watcher.queue(&t.name("queue")).durable().declare().await?;
    let mut events = connection.events();
    let alarm = t.memory_alarm().await?;
    channel.publish("", queue.name(), "1").send().await?;
    assert!(matches!(events.next().await, Some(Event::Blocked { .. })));
    let mut kept = channel.publish("", queue.name(), "2").confirm();
    assert!(poll_once(channel.publish("", queue.name(), "dropped").send()).await.is_none());
    assert!(poll_once(&mut kept).await.is_none());
    assert!(poll_once(channel.publish("", queue.name(), "dropped").confirm()).await.is_none());
    t.unblock(move || drop(alarm)).await;
    kept.await?;
    for expected in ["1", "2"] {
        assert_eq!(body(&watcher.get_no_ack(queue.name()).await?.expect("the messages were sent")), expected);
    }
    assert!(watcher.get(queue.name()).await?.is_none());
    check_channel(&t, &channel).await
}
