//! Channels: opening, closing, and the state that ends with them.

use super::prelude::*;

#[scenario]
async fn a_hundred_channels_work_in_parallel(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let mut channels = Vec::new();
    for _ in 0..100 {
        channels.push(connection.channel().await?);
    }
    let queue = t.queue_with(&channels[0], &[]).await?;
    for channel in &channels {
        channel.publish("", queue.name(), channel.id().to_string()).confirm().await?;
    }
    for channel in &channels {
        let delivery = channel.get(queue.name()).await?.expect("all messages are confirmed");
        assert_eq!(body(&delivery), channel.id().to_string());
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn the_number_of_a_closed_channel_is_reused(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let first = connection.channel().await?;
    let second = connection.channel().await?;
    assert_eq!((first.id(), second.id()), (1, 2));
    first.close().await?;
    let third = connection.channel().await?;
    assert_eq!(third.id(), 1);
    assert!(third.is_open() && !first.is_open());
    t.queue_with(&third, &["works"]).await?;
    for _ in 0..20 {
        connection.channel().await?.close().await?;
    }
    assert_eq!(connection.channel().await?.id(), 3);
    Ok(())
}

#[scenario]
async fn the_number_of_a_channel_that_the_broker_closed_is_reused(t: Test) -> Outcome {
    let connection = t.connect().await?;
    for _ in 0..10 {
        let channel = connection.channel().await?;
        assert_eq!(channel.id(), 1);
        let error = refused(channel.queue("no such queue").declare_passive().await)?;
        assert_eq!(error.code(), Some(404), "{error}");
    }
    Ok(())
}

#[scenario]
async fn calls_on_a_closed_channel_fail(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    channel.close().await?;
    assert_eq!(refused(channel.queue("q").declare().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(queue.publish("x").send().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(queue.publish("x").confirm().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(queue.get().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(queue.consume().start().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(channel.close().await)?.kind(), ErrorKind::Closed);
    assert!(channel.connection().is_open());
    Ok(())
}

#[scenario]
async fn unacked_messages_of_a_dropped_channel_are_requeued(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1"]).await?;
    let channel = connection.channel().await?;
    let id = channel.id();
    drop(channel.get(queue.name()).await?.expect("the message is confirmed"));
    let mut waiting = queue.consume().start().await?;
    drop(channel);
    let delivery = waiting.next().await.expect("the consumer is active")?;
    assert!(delivery.redelivered());
    assert_eq!(connection.channel().await?.id(), id);
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_connection_has_at_most_the_agreed_number_of_channels(t: Test) -> Outcome {
    let connection = t.open(&t.builder().channel_max(3)).await?;
    assert_eq!(connection.channel_max(), 3);
    let channels = [connection.channel().await?, connection.channel().await?, connection.channel().await?];
    let error = refused(connection.channel().await)?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    channels[1].close().await?;
    assert_eq!(connection.channel().await?.id(), 2);
    Ok(())
}

#[scenario]
async fn resuming_an_active_flow_changes_nothing(t: Test) -> Outcome {
    let channel = t.channel().await?;
    assert!(channel.flow(true).await?);
    t.queue_with(&channel, &["goes on"]).await?;
    Ok(())
}

#[scenario]
async fn pausing_the_flow_fails_with_540_and_ends_the_connection(t: Test) -> Outcome {
    let connection = t.open(&t.builder().recovery(Recovery::off())).await?;
    let channel = connection.channel().await?;
    let error = refused(channel.flow(false).await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(540)), "{error}");
    assert_eq!(connection.closed().await.code(), Some(540));
    assert!(!connection.is_open());
    Ok(())
}

#[scenario]
async fn a_call_that_times_out_leaves_the_channel_usable(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    let short = channel.within(Duration::ZERO);
    let error = refused(short.queue(&name).durable().declare().await)?;
    assert!(error.is_timeout(), "{error}");
    for _ in 0..3 {
        assert_eq!(refused(short.queue_purge(&name).await)?.kind(), ErrorKind::Timeout);
    }
    let queue = channel.queue(&name).durable().declare().await?;
    queue.publish("each answer goes to its own request").confirm().await?;
    assert_eq!(queue.purge().await?, 1);
    Ok(())
}

#[scenario]
async fn sixteen_tasks_share_one_channel(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let shared = channel.clone();
    let name = queue.name().to_owned();
    let work = move |index: usize| {
        let channel = shared.clone();
        let name = name.clone();
        async move {
            for number in 0..50 {
                channel.publish("", &name, format!("{index} {number}")).confirm().await?;
                assert_eq!(channel.queue(&name).declare_passive().await?.name(), name);
            }
            Ok(())
        }
    };
    t.together(16, work).await?;
    let mut next = [0; 16];
    while let Some(delivery) = channel.get_no_ack(queue.name()).await? {
        let text = body(&delivery);
        let (index, number) = text.split_once(' ').expect("two numbers");
        let next = &mut next[index.parse::<usize>()?];
        assert_eq!(number.parse::<u32>()?, *next, "the messages of each publisher keep their order");
        *next += 1;
    }
    assert_eq!(next, [50; 16]);
    Ok(())
}
