//! Connections: opening, closing, dropping, and the limits that they agree on with the broker.

use super::prelude::*;

#[scenario]
async fn a_connection_has_the_server_properties_and_the_agreed_limits(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let server = connection.server_properties();
    assert!(server.get("product").is_some_and(|product| product.as_str().is_some()), "{server:?}");
    assert!(connection.frame_max() >= 4096 && connection.channel_max() > 0);
    assert!(connection.is_open());
    Ok(())
}

#[scenario]
async fn the_broker_accepts_the_heartbeat_interval_of_the_client(t: Test) -> Outcome {
    let connection = t.open(&t.builder().heartbeat(Duration::from_secs(7))).await?;
    assert_eq!(connection.heartbeat(), Duration::from_secs(7));
    let without = t.open(&t.builder().heartbeat(Duration::ZERO)).await?;
    assert_eq!(without.heartbeat(), Duration::ZERO);
    Ok(())
}

#[scenario]
async fn closing_sends_accepted_publishes_and_awaits_their_confirms(t: Test) -> Outcome {
    let watcher = t.channel().await?;
    let queue = watcher.queue(&t.name("queue")).durable().declare().await?;
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let mut confirms = Vec::new();
    for index in 0..500 {
        confirms.push(channel.publish("", queue.name(), format!("{index}")).confirm_later().await?);
    }
    connection.close().await?;
    for confirm in confirms {
        confirm.wait().await?;
    }
    t.expect_ready(&watcher, queue.name(), 500).await?;
    Ok(())
}

#[scenario]
async fn closing_sends_accepted_publishes_without_confirms(t: Test) -> Outcome {
    let watcher = t.channel().await?;
    let queue = watcher.queue(&t.name("queue")).durable().declare().await?;
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    for index in 0..500 {
        channel.publish("", queue.name(), format!("{index}")).send().await?;
    }
    connection.close().await?;
    let mut consumer = queue.consume().start().await?;
    for index in 0..500 {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!(body(&delivery), index.to_string());
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn dropping_all_handles_sends_accepted_publishes(t: Test) -> Outcome {
    let watcher = t.channel().await?;
    let queue = watcher.queue(&t.name("queue")).durable().declare().await?;
    let channel = t.channel().await?;
    for index in 0..500 {
        channel.publish("", queue.name(), format!("{index}")).send().await?;
    }
    drop(channel);
    let mut consumer = queue.consume().start().await?;
    for index in 0..500 {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!(body(&delivery), index.to_string());
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn closing_a_closed_connection_succeeds(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let other = connection.clone();
    connection.close().await?;
    connection.close().await?;
    other.close().await?;
    assert_eq!(connection.closed().await.kind(), ErrorKind::Closed);
    assert!(!other.is_open());
    Ok(())
}

#[scenario]
async fn calls_on_a_closed_connection_fail(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    connection.close().await?;
    assert_eq!(refused(connection.channel().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(channel.queue("q").declare().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(channel.publish("", "q", "").send().await)?.kind(), ErrorKind::Closed);
    assert_eq!(refused(connection.update_secret("secret", "reason").await)?.kind(), ErrorKind::Closed);
    Ok(())
}

#[scenario]
async fn waiting_calls_end_when_the_connection_is_closed(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    let mut returns = channel.returns();
    let mut events = connection.events();
    let waiting = t.start(move || async move { consumer.next().await });
    let returned = t.start(move || async move { returns.next().await });
    let watched = connection.clone();
    let watching = t.start(move || async move { watched.closed().await });
    connection.close().await?;
    let error = refused(waiting.join().await.expect("the reason arrives first"))?;
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(returned.join().await.is_none());
    assert_eq!(watching.join().await.kind(), ErrorKind::Closed);
    assert!(matches!(events.next().await, Some(Event::Closed { error }) if error.kind() == ErrorKind::Closed));
    assert!(events.next().await.is_none());
    Ok(())
}

#[scenario]
async fn events_report_channels_that_the_broker_closed(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let mut events = connection.events();
    let channel = connection.channel().await?;
    let id = channel.id();
    refused(channel.queue("no such queue").declare_passive().await)?;
    let event = events.next().await.expect("the connection is open");
    let Event::ChannelClosed { channel, error } = event else { return Err(Failure::new(format!("{event:?}"))) };
    assert_eq!((channel, error.code()), (id, Some(404)));
    Ok(())
}

#[scenario]
async fn the_next_host_is_tried_when_one_is_unreachable(t: Test) -> Outcome {
    let dead = "127.0.0.1:1";
    let connection = t.open(&t.builder().hosts([dead, broker().address()])).await?;
    connection.channel().await?;
    let error = refused(t.open(&t.builder().hosts([dead, "127.0.0.1:2"])).await)?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("127.0.0.1:2 can't be reached (is a broker running there"), "{error}");
    Ok(())
}

#[scenario]
async fn an_invalid_uri_is_reported_without_its_password(t: Test) -> Outcome {
    for uri in ["http://user:pa55word@host", "amqp://user:pa55word@host:port/", "amqp://u:pa55word@h/?heartbeat=often"]
    {
        let error = refused(t.open(&Connection::builder().uri(uri)).await)?;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains("pa55word"), "{error:?}");
    }
    let error = refused(t.open(&t.builder().frame_max(4095)).await)?;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    Ok(())
}

#[scenario]
async fn a_secret_may_be_updated(t: Test) -> Outcome {
    let connection = t.connect().await?;
    connection.update_secret("guest", "it expires soon").await?;
    let channel = connection.channel().await?;
    t.queue_with(&channel, &["goes on"]).await?;
    Ok(())
}

#[scenario]
async fn sixteen_tasks_share_one_connection(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let shared = connection.clone();
    let test = t.clone();
    let work = move |index: usize| {
        let connection = shared.clone();
        let t = test.clone();
        async move {
            let channel = connection.channel().await?;
            let queue = t.queue_with(&channel, &[]).await?;
            let mut consumer = queue.consume().prefetch(10).start().await?;
            for number in 0..50 {
                queue.publish(format!("{index} {number}")).confirm().await?;
                let delivery = consumer.next().await.expect("the consumer is active")?;
                assert_eq!(body(&delivery), format!("{index} {number}"));
                delivery.ack()?;
            }
            Ok(channel.close().await?)
        }
    };
    t.together(16, work).await?;
    let stats = connection.stats();
    assert_eq!((stats.published, stats.confirmed, stats.delivered, stats.acked), (800, 800, 800, 800));
    Ok(())
}

#[scenario]
async fn stats_count_what_a_connection_did(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &["1", "2", "3"]).await?;
    refused(channel.publish("", "nowhere", "").mandatory().confirm().await)?;
    queue.get().await?.expect("three messages are left").ack()?;
    queue.get().await?.expect("two messages are left").nack(false)?;
    queue.get().await?.expect("one message is left").reject(false)?;
    channel.flow(true).await?;
    let stats = connection.stats();
    assert_eq!((stats.published, stats.confirmed, stats.returned, stats.nacked), (4, 4, 1, 0));
    assert_eq!((stats.delivered, stats.acked, stats.rejected), (3, 1, 2));
    assert_eq!((stats.unknown_deliveries, stats.blocked), (0, Duration::ZERO));
    assert!(stats.bytes_sent > 300 && stats.bytes_received > 300, "{stats:?}");
    assert!(stats.writes > 5 && stats.reads > 5 && stats.received > 10, "{stats:?}");
    Ok(())
}

#[scenario]
async fn a_slow_consumer_without_a_prefetch_bounds_memory_and_loses_no_message(t: Test) -> Outcome {
    const COUNT: usize = 400;
    const SIZE: usize = 50_000;
    const LIMIT: usize = 256 * 1024;
    const READ: usize = 1024 * 1024;
    let owner = t.channel().await?;
    let queue = owner.queue(&t.name("queue")).durable().declare().await?;
    let payload = vec![0; SIZE];
    let connection = t.open(&t.builder().receive_limit(LIMIT)).await?;
    let channel = connection.channel().await?;
    let mut consumer = channel.consume(queue.name()).no_ack().start().await?;
    for _ in 0..COUNT {
        queue.publish(&payload[..]).confirm().await?;
    }
    for taken in 1..=COUNT {
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!((delivery.delivery_tag(), delivery.body().len()), (taken as u64, SIZE));
        let read = connection.stats().bytes_received as usize;
        // The last read may exceed the limit, and end in the middle of a message.
        assert!(read < taken * SIZE + LIMIT + READ + 2 * SIZE, "{read} bytes were read for {taken} messages");
    }
    Ok(())
}
