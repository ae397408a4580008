//! Queues: declaring, deleting, purging, and exclusive use.

use super::prelude::*;

#[scenario]
async fn a_declared_queue_has_its_name_and_its_counts(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["one", "two"]).await?;
    let _consumer = channel.consume(queue.name()).prefetch(1).start().await?;
    let again = channel.queue(queue.name()).exclusive().declare().await?;
    assert_eq!((again.name(), again.consumer_count()), (queue.name(), 1));
    assert_eq!(again.message_count(), 1, "one message is unacked");
    Ok(())
}

#[scenario]
async fn declaring_again_with_the_same_settings_changes_nothing(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    for _ in 0..2 {
        channel.queue(&name).durable().max_length(5).message_ttl(Duration::from_secs(60)).declare().await?;
    }
    assert!(channel.is_open());
    Ok(())
}

#[scenario]
async fn declaring_again_with_other_settings_fails_with_406_and_closes_only_the_channel(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let name = t.name("queue");
    channel.queue(&name).durable().declare().await?;
    let error = refused(channel.queue(&name).durable().auto_delete().declare().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(406)), "{error}");
    assert!(error.to_string().contains("inequivalent arg 'auto_delete'"), "{error}");
    assert!(!channel.is_open() && other.is_open() && connection.is_open());
    assert_eq!(
        refused(channel.queue(&name).durable().declare().await)?.code(),
        Some(406),
        "later calls fail with the same reason"
    );
    other.queue(&name).durable().declare().await?;
    connection.channel().await?.queue(&name).durable().declare().await?;
    Ok(())
}

#[scenario]
async fn a_passive_declare_finds_a_queue_whatever_its_settings(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    channel.queue(&name).durable().max_length(1).declare().await?;
    channel.publish("", &name, "here").confirm().await?;
    assert_eq!(channel.queue(&name).declare_passive().await?.message_count(), 1);
    Ok(())
}

#[scenario]
async fn a_passive_declare_of_a_missing_queue_fails_with_404(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let error = refused(channel.queue(&t.name("missing")).declare_passive().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");
    Ok(())
}

#[scenario]
async fn a_queue_without_a_name_gets_one_from_the_broker(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let first = channel.queue("").exclusive().declare().await?;
    let second = channel.queue("").exclusive().declare().await?;
    assert!(first.name().starts_with("amq."), "{}", first.name());
    assert_ne!(first.name(), second.name());
    first.publish("to the first").confirm().await?;
    assert_eq!(body(&first.get().await?.expect("the message is there")), "to the first");
    Ok(())
}

#[scenario]
async fn another_connection_fails_with_405_on_an_exclusive_queue(t: Test) -> Outcome {
    let owner = t.channel().await?;
    let name = t.name("queue");
    owner.queue(&name).exclusive().declare().await?;
    let stranger = t.connect().await?;
    let error = refused(stranger.channel().await?.consume(&name).start().await)?;
    assert_eq!(error.code(), Some(405), "{error}");
    let error = refused(stranger.channel().await?.queue(&name).exclusive().declare().await)?;
    assert_eq!(error.code(), Some(405), "{error}");
    owner.connection().channel().await?.queue(&name).exclusive().declare().await?;
    Ok(())
}

#[scenario]
async fn an_exclusive_queue_is_deleted_with_its_connection(t: Test) -> Outcome {
    let owner = t.connect().await?;
    let name = t.name("queue");
    owner.channel().await?.queue(&name).exclusive().declare().await?;
    owner.close().await?;
    let error = refused(t.channel().await?.queue(&name).declare_passive().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    Ok(())
}

#[scenario]
async fn an_auto_delete_queue_is_deleted_with_its_last_consumer(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).durable().auto_delete().declare().await?;
    let consumer = queue.consume().start().await?;
    channel.queue(&name).declare_passive().await?;
    consumer.cancel().await?;
    let error = refused(channel.queue(&name).declare_passive().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    Ok(())
}

#[scenario]
async fn names_that_begin_with_amq_are_reserved(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let error = refused(channel.queue("amq.mine").exclusive().declare().await)?;
    assert_eq!(error.code(), Some(403), "{error}");
    Ok(())
}

#[scenario]
async fn a_name_over_255_bytes_is_refused_and_the_channel_stays_open(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let long = "ü".repeat(128);
    let error = refused(channel.queue(&long).declare().await)?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(refused(channel.consume(&long).start().await)?.kind(), ErrorKind::Usage);
    assert_eq!(refused(channel.get(&long).await)?.kind(), ErrorKind::Usage);
    assert_eq!(refused(channel.queue_bind("q", "x", &long, ()).await)?.kind(), ErrorKind::Usage);
    let longest = format!("{}{}", t.name("queue"), "x".repeat(255))[..255].to_owned();
    assert_eq!(channel.queue(&longest).exclusive().declare().await?.name(), longest);
    Ok(())
}

#[scenario]
async fn names_and_keys_may_be_of_any_script(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.name("очередь-待ち行列-🐇");
    let exchange = t.name("échange");
    let queue = channel.queue(&queue).exclusive().declare().await?;
    channel.exchange(&exchange).topic().declare().await?;
    queue.bind(&exchange, "größe.*").await?;
    channel.publish(&exchange, "größe.łódź", "ok").mandatory().confirm().await?;
    let delivery = queue.get().await?.expect("the message was routed");
    assert_eq!((delivery.exchange(), delivery.routing_key()), (&*exchange, "größe.łódź"));
    Ok(())
}

#[scenario]
async fn a_purge_returns_how_many_messages_it_deleted(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["one", "two", "three"]).await?;
    let kept = queue.get().await?.expect("three messages are left");
    assert_eq!(queue.purge().await?, 2, "one message is unacked");
    kept.nack(true)?;
    assert_eq!(body(&queue.get().await?.expect("the message is requeued")), "one");
    assert_eq!(queue.purge().await?, 0);
    Ok(())
}

#[scenario]
async fn a_delete_returns_how_many_messages_were_in_the_queue(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["one", "two"]).await?;
    assert_eq!(queue.delete().delete().await?, 2);
    assert_eq!(queue.delete().delete().await?, 0, "deleting a missing queue succeeds");
    Ok(())
}

#[scenario]
async fn delete_if_empty_requires_an_empty_queue(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &["one"]).await?;
    let error = refused(queue.delete().if_empty().delete().await)?;
    assert_eq!(error.code(), Some(406), "{error}");
    let channel = connection.channel().await?;
    channel.queue_purge(queue.name()).await?;
    channel.queue_delete(queue.name()).if_empty().delete().await?;
    assert_eq!(refused(channel.queue(queue.name()).declare_passive().await)?.code(), Some(404));
    Ok(())
}

#[scenario]
async fn delete_if_unused_requires_a_queue_without_consumers(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let consumer = channel.consume(queue.name()).start().await?;
    let error = refused(other.queue_delete(queue.name()).if_unused().delete().await)?;
    assert_eq!(error.code(), Some(406), "{error}");
    consumer.cancel().await?;
    channel.queue_delete(queue.name()).if_unused().delete().await?;
    assert_eq!(refused(channel.queue(queue.name()).declare_passive().await)?.code(), Some(404));
    Ok(())
}
