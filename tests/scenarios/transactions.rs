//! Transactions.

use super::prelude::*;

#[scenario]
async fn messages_of_a_transaction_reach_the_queue_with_the_commit(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&other, &[]).await?;
    channel.tx_select().await?;
    channel.publish("", queue.name(), "one").send().await?;
    channel.publish("", queue.name(), "two").send().await?;
    assert_eq!(t.ready(&channel, queue.name()).await?, 0);
    channel.tx_commit().await?;
    assert_eq!(t.ready(&other, queue.name()).await?, 2);
    Ok(())
}

#[scenario]
async fn a_rollback_undoes_publishes_and_acks(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&other, &["taken"]).await?;
    channel.tx_select().await?;
    channel.publish("", queue.name(), "gone").send().await?;
    channel.get(queue.name()).await?.expect("the message is confirmed").ack()?;
    channel.tx_rollback().await?;
    channel.tx_commit().await?;
    assert_eq!(t.ready(&other, queue.name()).await?, 0, "the ack is undone, and the message is unacked");
    channel.close().await?;
    let mut consumer = queue.consume().start().await?;
    let back = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&back), back.redelivered()), ("taken", true));
    Ok(())
}

#[scenario]
async fn transactions_and_confirms_exclude_each_other_and_the_channel_stays_open(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let transacted = connection.channel().await?;
    let confirming = connection.channel().await?;
    let queue = t.queue_with(&confirming, &[]).await?;
    transacted.tx_select().await?;
    for _ in 0..2 {
        let error = refused(transacted.publish("", queue.name(), "x").confirm().await)?;
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    transacted.publish("", queue.name(), "in the transaction").send().await?;
    transacted.tx_commit().await?;
    queue.publish("confirmed").confirm().await?;
    let error = refused(confirming.tx_select().await)?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(t.ready(&confirming, queue.name()).await?, 2);
    Ok(())
}

#[scenario]
async fn a_commit_without_a_transaction_fails_with_406(t: Test) -> Outcome {
    let error = refused(t.channel().await?.tx_commit().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(406)), "{error}");
    Ok(())
}
