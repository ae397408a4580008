//! Publishing and consuming in batches.

use super::prelude::*;

/// Returns the next batch.
#[either]
async fn next(batches: &mut Batches) -> Outcome<Deliveries> {
    Ok(batches.next().await.ok_or_else(|| Failure::new("the consumer ended"))??)
}

/// Returns the bodies of a batch.
fn bodies(batch: &Deliveries) -> Vec<String> {
    batch.iter().map(|delivery| body(&delivery).to_owned()).collect()
}

fn failures(error: &PublishManyError) -> Vec<(usize, ErrorKind)> {
    error.failed().iter().map(|(index, error)| (*index, error.kind())).collect()
}

#[scenario]
async fn the_messages_of_a_batch_arrive_in_order_and_are_confirmed_together(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &[]).await?;
    let publisher = channel.publisher("", queue.name()).properties(Properties::new().with_kind("order"));
    let lines: Vec<String> = (0..3000).map(|index| index.to_string()).collect();
    publisher.publish_many(&lines).confirm().await?;
    t.expect_ready(&channel, queue.name(), 3000).await?;
    assert_eq!(channel.connection().stats().confirmed, 3000);
    let mut batches = channel.consume(queue.name()).prefetch(200).start().await?.batches().max_count(100);
    let mut index = 0;
    while index < lines.len() {
        let batch = next(&mut batches).await?;
        assert!((1..=100).contains(&batch.len()), "{}", batch.len());
        for delivery in &batch {
            assert_eq!((body(&delivery), delivery.delivery_tag()), (&*lines[index], index as u64 + 1));
            assert_eq!((delivery.properties().kind(), delivery.redelivered()), (Some("order"), false));
            index += 1;
        }
        assert_eq!(batch.ack_all()?, Settled::Sent);
    }
    assert_eq!(channel.connection().stats().acked, 3000);
    channel.close().await?;
    t.expect_ready(&owner, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn a_batch_names_the_messages_that_were_refused(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("queue");
    let full = channel.queue(&name).exclusive().max_length(2).overflow(Overflow::RejectPublish).declare().await?;
    let publisher = channel.publisher("", full.name());
    let error = refused(publisher.publish_many(["1", "2", "3", "4", "5"]).confirm().await)?;
    assert_eq!(error.sent(), 5);
    assert_eq!(failures(&error), [2, 3, 4].map(|index| (index, ErrorKind::Nacked)));
    assert!(error.to_string().starts_with("3 of 5 messages were not confirmed; the first is number 2: "), "{error}");
    assert_eq!(Error::from(error).kind(), ErrorKind::Nacked);
    Ok(())
}

#[scenario]
async fn a_batch_names_the_messages_that_no_queue_took(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let publisher = channel.publisher("", "nowhere").mandatory();
    let confirms = publisher.publish_many((0..300).map(|index| index.to_string())).confirm_later().await?;
    assert_eq!(confirms.len(), 300);
    channel.publish("", "nowhere", "between").confirm().await?;
    let error = refused(confirms.wait().await)?;
    assert_eq!(failures(&error), (0..300).map(|index| (index, ErrorKind::Returned)).collect::<Vec<_>>());
    let returned = error.failed()[7].1.returned().map(|returned| body(returned).to_owned());
    assert_eq!(returned.as_deref(), Some("7"));
    Ok(())
}

#[scenario]
async fn batches_of_publishes_without_confirms_and_empty_ones_are_counted(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let publisher = channel.publisher("", queue.name());
    assert_eq!(publisher.publish_many([b"1", b"2"]).send().await?, 2);
    assert_eq!(publisher.publish_many(Vec::<String>::new()).send().await?, 0);
    publisher.publish_many(Vec::<String>::new()).confirm().await?;
    t.expect_ready(&channel, queue.name(), 2).await?;
    assert_eq!(channel.connection().stats().confirmed, 0);
    Ok(())
}

#[scenario]
async fn a_batch_larger_than_the_output_buffer_waits_for_room(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let publisher = channel.publisher("", queue.name());
    let body = vec![7; 64 * 1024];
    publisher.publish_many((0..150).map(|_| &body)).confirm().await?;
    t.expect_ready(&channel, queue.name(), 150).await?;
    Ok(())
}

#[scenario]
async fn a_full_batch_does_not_wait_and_a_short_one_waits_its_time(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let batches = queue.consume().start().await?.batches().max_count(2);
    let mut batches = batches.wait(Duration::from_secs(3600));
    let first = next(&mut batches).await?;
    assert_eq!(bodies(&first), ["1", "2"]);
    let mut batches = batches.wait(Duration::from_millis(50));
    let second = next(&mut batches).await?;
    assert_eq!((&*bodies(&second), &*second[0].text()), (&["3".to_owned()][..], "3"));
    second.ack_all()?;
    first.ack_all()?;
    Ok(())
}

#[scenario]
async fn a_batch_that_fills_the_prefetch_does_not_wait(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    let batches = queue.consume().prefetch(2).start().await?.batches().max_count(100);
    let mut batches = batches.wait(Duration::from_secs(3600));
    let batch = next(&mut batches).await?;
    assert_eq!(bodies(&batch), ["1", "2"]);
    batch.ack_all()?;
    Ok(())
}

#[scenario]
async fn a_batch_settles_its_own_deliveries_and_no_others(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1", "2", "3", "4", "5", "6"]).await?;
    let batches = channel.consume(queue.name()).prefetch(6).start().await?.batches().max_count(2);
    // The broker may send them one by one.
    let mut batches = batches.wait(Duration::from_secs(60));
    let first = next(&mut batches).await?;
    let second = next(&mut batches).await?;
    let mut third = next(&mut batches).await?;
    assert_eq!([bodies(&first), bodies(&second), bodies(&third)], [["1", "2"], ["3", "4"], ["5", "6"]]);
    assert_eq!(second.ack_all()?, Settled::Sent);
    assert_eq!(third.ack_up_to(1)?, Settled::Sent);
    for delivery in third {
        assert_eq!(delivery.nack(false)?, Settled::Sent);
    }
    // The first batch is not settled: the broker requeues it.
    channel.close().await?;
    t.expect_ready(&owner, queue.name(), 2).await?;
    for expected in bodies(&first) {
        let delivery = owner.get(queue.name()).await?.expect("a requeued message");
        assert_eq!((body(&delivery), delivery.redelivered()), (&*expected, true));
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn the_deliveries_of_a_batch_are_rejected_together(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2"]).await?;
    let batches = queue.consume().prefetch(2).start().await?.batches().wait(Duration::from_secs(60));
    let mut batches = batches.max_count(2);
    assert_eq!(next(&mut batches).await?.nack_all(true)?, Settled::Sent);
    let again = next(&mut batches).await?;
    assert_eq!(bodies(&again), ["1", "2"]);
    assert!(again.iter().all(|delivery| delivery.redelivered()));
    assert_eq!(again.nack_all(false)?, Settled::Sent);
    batches.cancel().await?;
    assert!(batches.next().await.is_none());
    t.expect_ready(&channel, queue.name(), 0).await?;
    Ok(())
}

#[scenario]
async fn a_batch_of_a_consumer_without_acks_needs_none(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &["1"]).await?;
    let mut batches = queue.consume().no_ack().start().await?.batches();
    assert_eq!(next(&mut batches).await?.ack_all()?, Settled::NotNeeded);
    Ok(())
}

#[scenario]
async fn a_batch_that_an_ack_of_a_later_delivery_settled_can_not_be_settled_again(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let owner = connection.channel().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&owner, &["1", "2", "3"]).await?;
    let batches = channel.consume(queue.name()).start().await?.batches().max_count(2);
    let mut batches = batches.wait(Duration::from_secs(60));
    let first = next(&mut batches).await?;
    let mut batches = batches.max_count(1);
    for last in next(&mut batches).await? {
        assert_eq!(last.ack_multiple()?, Settled::Sent);
    }
    let error = refused(first.ack_all())?;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    channel.close().await?;
    t.expect_ready(&owner, queue.name(), 0).await?;
    Ok(())
}
