//! Scenarios that need the management API of RabbitMQ or `rabbitmqctl`.

use super::prelude::*;

/// Waits until the management API lists the connection with the client-provided `name`, and returns its full name.
#[either]
async fn full_name(t: &Test, name: &str) -> Outcome<String> {
    let wanted = format!("\"user_provided_name\":\"{name}\"");
    loop {
        let list = || broker().http("GET", "/api/connections?columns=name,user_provided_name");
        let list = t.unblock(list).await?;
        if let Some(entry) = list.split('}').find(|entry| entry.contains(&wanted)) {
            let after = entry.split("\"name\":\"").nth(1);
            return Ok(after.and_then(|rest| rest.split('"').next()).unwrap_or_default().replace("\\u003e", ">"));
        }
    }
}

/// Makes the broker close the connection with the client-provided `name`.
#[either]
async fn kill(t: &Test, name: &str) -> Outcome {
    let full_name = full_name(t, name).await?.replace(' ', "%20").replace('>', "%3E");
    t.unblock(move || broker().http("DELETE", &format!("/api/connections/{full_name}"))).await?;
    Ok(())
}

#[scenario]
async fn the_broker_shows_a_connection_by_its_name(t: Test) -> Outcome {
    let name = t.name("order service");
    let connection = t.open(&t.builder().connection_name(&name).client_property("region", "eu")).await?;
    assert!(full_name(&t, &name).await?.contains(" -> "));
    Ok(connection.close().await?)
}

#[scenario]
async fn waiting_calls_fail_with_320_when_the_broker_closes_the_connection(t: Test) -> Outcome {
    let name = t.name("connection");
    let connection = t.open(&t.builder().connection_name(&name).recovery(Recovery::off())).await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    let mut returns = channel.returns();
    let mut events = connection.events();
    let waiting = t.start(move || async move { consumer.next().await });
    let returned = t.start(move || async move { returns.next().await });
    kill(&t, &name).await?;
    let error = connection.closed().await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(320)), "{error}");
    let error = refused(waiting.join().await.expect("the reason arrives first"))?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(320)), "{error}");
    assert!(returned.join().await.is_none());
    assert!(matches!(events.next().await, Some(Event::Closed { error }) if error.code() == Some(320)));
    assert_eq!(refused(channel.get("any").await)?.code(), Some(320));
    assert_eq!(refused(channel.publish("", "any", "").send().await)?.code(), Some(320));
    assert_eq!(refused(channel.publish("", "any", "").confirm().await)?.code(), Some(320));
    assert_eq!(refused(connection.channel().await)?.code(), Some(320));
    assert_eq!(refused(connection.close().await)?.code(), Some(320));
    Ok(())
}

#[scenario(alone)]
async fn publishing_waits_during_a_memory_alarm_and_other_calls_continue(t: Test) -> Outcome {
    let consuming = t.connect().await?;
    let owner = consuming.channel().await?;
    let queue = t.queue_with(&owner, &[]).await?;
    let target = owner.queue(&t.name("queue")).durable().declare().await?;
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let mut events = connection.events();
    channel.publish("", target.name(), "before").confirm().await?;
    let alarm = t.memory_alarm().await?;
    // RabbitMQ blocks a connection only when it publishes.
    channel.publish("", target.name(), "the last one").send().await?;
    let event = events.next().await.expect("the connection is open");
    let Event::Blocked { reason } = event else { return Err(Failure::new(format!("{event:?}"))) };
    assert!(reason.contains("memory"), "{reason}");

    let short = channel.within(Duration::from_millis(20));
    let error = refused(short.publish("", target.name(), "too late").send().await)?;
    assert!(error.is_timeout() && error.to_string().contains(&reason), "{error}");
    // RabbitMQ does not read from a blocked connection, so it does not answer there either.
    let short = channel.within(Duration::from_millis(200));
    if let Err(error) = short.queue(target.name()).declare_passive().await {
        assert!(error.is_timeout() && error.to_string().contains(&reason), "{error}");
    }
    // Clearing the alarm runs `rabbitmqctl`, which may take long.
    let waiting = channel.within(Duration::from_secs(100));
    let name = target.name().to_owned();
    let waiting = t.start(move || async move { waiting.publish("", &name, "blocked").confirm().await });
    let delivery = owner.get(target.name()).await?.expect("a message from before the alarm");
    assert_eq!(body(&delivery), "before");
    delivery.ack()?;
    t.expect_ready(&owner, queue.name(), 0).await?;
    assert!(connection.is_open() && connection.stats().blocked > Duration::ZERO);

    t.unblock(move || drop(alarm)).await;
    assert!(matches!(events.next().await, Some(Event::Unblocked)));
    waiting.join().await?;
    let blocked = connection.stats().blocked;
    channel.publish("", target.name(), "after").confirm().await?;
    assert_eq!(connection.stats().blocked, blocked);
    for expected in ["the last one", "blocked", "after"] {
        assert_eq!(body(&owner.get_no_ack(target.name()).await?.expect("all messages are confirmed")), expected);
    }
    Ok(())
}

#[scenario(alone)]
async fn blocked_publishes_fail_when_the_connection_ends(t: Test) -> Outcome {
    let name = t.name("connection");
    let connection = t.open(&t.builder().connection_name(&name).recovery(Recovery::off())).await?;
    let channel = connection.channel().await?;
    let mut events = connection.events();
    full_name(&t, &name).await?;
    let alarm = t.memory_alarm().await?;
    channel.publish("", "nowhere", "").send().await?;
    assert!(matches!(events.next().await, Some(Event::Blocked { .. })));
    let publishing = channel.clone();
    let requesting = channel.clone();
    let publish = t.start(move || async move { publishing.publish("", "nowhere", "").send().await });
    let request = t.start(move || async move { requesting.queue("amq.nothing").declare_passive().await });
    kill(&t, &name).await?;
    for error in [refused(publish.join().await)?, refused(request.join().await)?, connection.closed().await] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(320)), "{error}");
    }
    t.unblock(move || drop(alarm)).await;
    Ok(())
}
