//! Publisher confirms.

use super::prelude::*;

#[scenario]
async fn a_thousand_confirms_are_awaited_in_any_order(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut confirms = Vec::new();
    for index in 0..1000 {
        confirms.push(queue.publish(format!("{index}")).confirm_later().await?);
    }
    while !confirms.is_empty() {
        let next = confirms.len() * 7 / 11;
        confirms.swap_remove(next).wait().await?;
    }
    t.expect_ready(&channel, queue.name(), 1000).await?;
    assert_eq!(channel.connection().stats().confirmed, 1000);
    Ok(())
}

#[scenario]
async fn ignored_confirms_do_not_disturb_the_others(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    queue.publish("before confirms are on").send().await?;
    drop(queue.publish("dropped").confirm_later().await?);
    queue.publish("not asked for").send().await?;
    let returned = channel.publish("", "nowhere", "returned").mandatory().confirm_later().await?;
    drop(channel.publish("", "nowhere", "returned and dropped").mandatory().confirm_later().await?);
    queue.publish("last").confirm().await?;
    assert_eq!(refused(returned.wait().await)?.kind(), ErrorKind::Returned);
    t.expect_ready(&channel, queue.name(), 4).await?;
    Ok(())
}

#[scenario]
async fn a_full_queue_that_rejects_publishes_fails_the_confirm(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    let full = channel.queue(&name).exclusive().max_length(1).overflow(Overflow::RejectPublish).declare().await?;
    full.publish("fits").confirm().await?;
    let error = refused(full.publish("does not").confirm().await)?;
    assert_eq!(error.kind(), ErrorKind::Nacked, "{error}");
    full.get().await?.expect("the first message").ack()?;
    full.publish("fits again").confirm().await?;
    let stats = channel.connection().stats();
    assert_eq!((stats.published, stats.confirmed, stats.nacked), (3, 2, 1));
    Ok(())
}

#[scenario]
async fn publishing_to_a_missing_exchange_ends_the_channel_with_404(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let name = t.name("missing");
    let mut sent = Vec::new();
    for body in ["one", "two"] {
        sent.push(channel.publish(&name, "", body).confirm_later().await);
    }
    for confirm in sent {
        // The channel may end between the two publishes.
        let error = match confirm {
            Ok(confirm) => refused(confirm.wait().await)?,
            Err(error) => error,
        };
        assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
    }
    let error = refused(channel.publish("", "anywhere", "").send().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    assert_eq!(refused(channel.get("anything").await)?.code(), Some(404));
    let queue = t.queue_with(&other, &["the other channel goes on"]).await?;
    t.expect_ready(&other, queue.name(), 1).await?;
    Ok(())
}

#[scenario]
async fn a_publish_that_was_confirmed_before_its_channel_ended_stays_confirmed(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let early = queue.publish("early").confirm_later().await?;
    queue.publish("confirmed after the first").confirm().await?;
    let error = refused(channel.queue(&t.name("missing")).declare_passive().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    Ok(early.wait().await?)
}

#[scenario]
async fn a_confirm_ends_when_its_channel_is_closed(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let name = t.name("queue");
    channel.queue(&name).durable().declare().await?;
    let confirm = channel.publish("", &name, "x").persistent().confirm_later().await?;
    channel.close().await?;
    match confirm.wait().await {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
    }
    t.expect_ready(&connection.channel().await?, &name, 1).await?;
    Ok(())
}

#[scenario]
async fn persistent_messages_to_a_durable_quorum_queue_are_confirmed(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = channel.queue(&t.name("queue")).durable().quorum().declare().await?;
    let mut confirms = Vec::new();
    for index in 0..100 {
        confirms.push(queue.publish(format!("{index}")).persistent().confirm_later().await?);
    }
    for confirm in confirms {
        confirm.wait().await?;
    }
    let mut consumer = queue.consume().start().await?;
    for index in 0..100 {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!(body(&delivery), index.to_string());
        delivery.ack()?;
    }
    Ok(())
}
