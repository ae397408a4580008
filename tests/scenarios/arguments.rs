//! The typed arguments of queues.

use super::prelude::*;

/// Declares a queue for dead letters, and the exchange that routes to it.
#[either]
async fn dead_letters(t: &Test, channel: &Channel) -> Outcome<(Queue, String)> {
    let queue = t.queue_with(channel, &[]).await?;
    let exchange = t.name("dead");
    channel.exchange(&exchange).fanout().declare().await?;
    queue.bind(&exchange, "").await?;
    Ok((queue, exchange))
}

/// Returns the first entry of `x-death`: queue, reason and count.
fn death(message: &Message) -> Outcome<(String, String, i64)> {
    let headers = message.headers()?;
    let deaths = headers.get("x-death").and_then(|deaths| deaths.as_array());
    let death = deaths.and_then(|deaths| deaths.iter().next()?.as_table()).ok_or(Failure::new("no x-death"))?;
    let text = |key| death.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    Ok((text("queue"), text("reason"), death.get("count").and_then(|count| count.as_i64()).unwrap_or(0)))
}

#[scenario]
async fn messages_expire_after_the_time_to_live_of_the_queue(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let (dead, exchange) = dead_letters(&t, &channel).await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).exclusive().message_ttl(Duration::from_millis(1));
    let queue = queue.dead_letter_exchange(&exchange).declare().await?;
    let mut consumer = dead.consume().start().await?;
    queue.publish("late").confirm().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&delivery), delivery.routing_key()), ("late", queue.name()));
    assert_eq!(death(&delivery)?, (queue.name().to_owned(), "expired".to_owned(), 1));
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_message_expires_after_its_own_time_to_live(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let (dead, exchange) = dead_letters(&t, &channel).await?;
    let queue = channel.queue(&t.name("queue")).exclusive().dead_letter_exchange(&exchange).declare().await?;
    let mut consumer = dead.consume().start().await?;
    queue.publish("late").expiration(Duration::from_millis(1)).confirm().await?;
    queue.publish("not late").confirm().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!(death(&delivery)?.1, "expired");
    assert_eq!(
        delivery.headers()?.get("x-death").map(|deaths| deaths.as_array().map(|deaths| deaths.len())),
        Some(Some(1))
    );
    assert_eq!(body(&queue.get().await?.expect("the other message is still there")), "not late");
    Ok(())
}

#[scenario]
async fn an_unused_queue_expires(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    // A look at the queue would count as use, so wait for the exchange, which is deleted with its only binding.
    let queue = t.name("queue");
    let exchange = t.name("exchange");
    channel.exchange(&exchange).fanout().auto_delete().declare().await?;
    // The queue must not expire before it is bound, even on a slow machine.
    let queue = channel.queue(&queue).durable().expires(Duration::from_secs(2)).declare().await?;
    queue.bind(&exchange, "").await?;
    while channel.exchange(&exchange).declare_passive().await.is_ok() {}
    let error = refused(connection.channel().await?.queue(queue.name()).declare_passive().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    Ok(())
}

#[scenario]
async fn a_full_queue_drops_its_oldest_message(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let (dead, exchange) = dead_letters(&t, &channel).await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).exclusive().max_length(2).overflow(Overflow::DropHead);
    let queue = queue.dead_letter_exchange(&exchange).declare().await?;
    let mut consumer = dead.consume().start().await?;
    for body in ["1", "2", "3"] {
        queue.publish(body).confirm().await?;
    }
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&delivery), &*death(&delivery)?.1), ("1", "maxlen"));
    t.expect_ready(&channel, queue.name(), 2).await?;
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_queue_at_its_byte_limit_drops_its_oldest_message(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = channel.queue(&t.name("queue")).exclusive().max_length_bytes(10).declare().await?;
    queue.publish("12345").confirm().await?;
    queue.publish("67890").confirm().await?;
    t.expect_ready(&channel, queue.name(), 2).await?;
    queue.publish("x").confirm().await?;
    assert_eq!(body(&queue.get().await?.expect("the first message was dropped")), "67890");
    Ok(())
}

#[scenario]
async fn a_full_queue_may_dead_letter_rejected_publishes(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let (dead, exchange) = dead_letters(&t, &channel).await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).exclusive().max_length(1).overflow(Overflow::RejectPublishDlx);
    let queue = queue.dead_letter_exchange(&exchange).declare().await?;
    let mut consumer = dead.consume().start().await?;
    queue.publish("1").confirm().await?;
    assert_eq!(refused(queue.publish("2").confirm().await)?.kind(), ErrorKind::Nacked);
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!(body(&delivery), "2");
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn rejected_messages_go_to_the_dead_letter_exchange_with_its_key(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let dead = t.queue_with(&channel, &[]).await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).exclusive().dead_letter_exchange("");
    let queue = queue.dead_letter_routing_key(dead.name()).declare().await?;
    let mut consumer = dead.consume().start().await?;
    for times in 1..=2 {
        queue.publish("bad").header("kept", times).confirm().await?;
        queue.get().await?.expect("the message is confirmed").reject(false)?;
        let delivery = consumer.next().await.expect("the consumer is active")?;
        assert_eq!(death(&delivery)?, (queue.name().to_owned(), "rejected".to_owned(), 1));
        assert_eq!(delivery.headers()?.get("kept").and_then(|value| value.as_i64()), Some(times.into()));
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn a_priority_queue_delivers_by_priority(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = channel.queue(&t.name("queue")).exclusive().max_priority(5).declare().await?;
    for (body, priority) in [("low", 1), ("high", 5), ("middle", 3), ("above all", 9), ("lowest", 0)] {
        queue.publish(body).priority(priority).confirm().await?;
    }
    for expected in ["high", "above all", "middle", "low", "lowest"] {
        assert_eq!(body(&queue.get().await?.expect("all messages are confirmed")), expected);
    }
    Ok(())
}

#[scenario]
async fn the_next_single_active_consumer_takes_over(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = channel.queue(&t.name("queue")).exclusive().single_active_consumer().declare().await?;
    let mut first = queue.consume().start().await?;
    let mut second = queue.consume().priority(10).start().await?;
    for body in ["1", "2"] {
        queue.publish(body).confirm().await?;
        let delivery = first.next().await.expect("the consumer is active")?;
        assert_eq!(delivery.consumer_tag(), first.tag());
        delivery.ack()?;
    }
    first.cancel().await?;
    queue.publish("3").confirm().await?;
    let delivery = second.next().await.expect("the consumer is active")?;
    assert_eq!(body(&delivery), "3");
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_quorum_queue_dead_letters_a_message_at_its_delivery_limit(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let (dead, exchange) = dead_letters(&t, &channel).await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).durable().quorum().delivery_limit(2);
    let queue = queue.dead_letter_exchange(&exchange).declare().await?;
    let mut consumer = queue.consume().start().await?;
    let mut buried = dead.consume().start().await?;
    queue.publish("poison").confirm().await?;
    for _ in 0..3 {
        consumer.next().await.expect("the consumer is active")?.reject(true)?;
    }
    let delivery = buried.next().await.expect("the consumer is active")?;
    assert_eq!((body(&delivery), &*death(&delivery)?.1), ("poison", "delivery_limit"));
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_quorum_queue_forwards_dead_letters_at_least_once(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let dead = channel.queue(&t.name("dead")).durable().quorum().declare().await?;
    let name = t.name("queue");
    let queue = channel.queue(&name).durable().quorum().overflow(Overflow::RejectPublish);
    let queue = queue.dead_letter_exchange("").dead_letter_routing_key(dead.name());
    let queue = queue.dead_letter_strategy(DeadLetterStrategy::AtLeastOnce).initial_group_size(1).declare().await?;
    let mut buried = dead.consume().start().await?;
    queue.publish("bad").confirm().await?;
    let mut consumer = queue.consume().start().await?;
    consumer.next().await.expect("the consumer is active")?.reject(false)?;
    let delivery = buried.next().await.expect("the consumer is active")?;
    assert_eq!(body(&delivery), "bad");
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn each_consumer_reads_a_stream_from_its_own_offset(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("stream");
    let stream = channel.queue(&name).durable().stream().max_age("1D").max_segment_size(1_000_000);
    let stream = stream.leader_locator(LeaderLocator::ClientLocal).declare().await?;
    for body in ["0", "1", "2"] {
        stream.publish(body).confirm().await?;
    }
    for from in [0, 2] {
        let consume = stream.consume().prefetch(10).argument("x-stream-offset", Value::I64(from));
        let mut consumer = consume.start().await?;
        for index in from..3 {
            let delivery = consumer.next().await.expect("the consumer is active")?;
            assert_eq!(body(&delivery), index.to_string());
            assert_eq!(delivery.headers()?.get("x-stream-offset").and_then(|offset| offset.as_i64()), Some(index));
            delivery.ack()?;
        }
    }
    Ok(())
}

#[scenario]
async fn the_broker_checks_every_argument_of_a_classic_queue(t: Test) -> Outcome {
    let connection = t.connect().await?;
    for argument in [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-priority",
        "x-single-active-consumer",
        "x-queue-mode",
    ] {
        let channel = connection.channel().await?;
        let name = t.name("queue");
        let minute = Duration::from_secs(60);
        let full = channel.queue(&name).durable().classic().message_ttl(minute).expires(minute).max_length(9);
        let full = full.max_length_bytes(9).overflow(Overflow::RejectPublish).dead_letter_exchange("amq.direct");
        full.dead_letter_routing_key("key").max_priority(9).single_active_consumer().lazy().declare().await?;
        let other =
            channel.queue(&name).durable().message_ttl(minute).expires(minute).max_length(9).max_length_bytes(9);
        let other = other.overflow(Overflow::RejectPublish).dead_letter_exchange("amq.direct");
        let other = other.dead_letter_routing_key("key").max_priority(9).single_active_consumer().lazy();
        let odd: Value<'_> = if argument.contains("consumer") { false.into() } else { Value::I32(8) };
        let other = match argument {
            "x-overflow" => other.overflow(Overflow::DropHead),
            "x-dead-letter-exchange" => other.dead_letter_exchange("amq.fanout"),
            "x-dead-letter-routing-key" => other.dead_letter_routing_key("other"),
            "x-queue-mode" => other.argument(argument, "default"),
            _ => other.argument(argument, odd),
        };
        let error = refused(other.declare().await)?;
        assert!(error.to_string().contains(&format!("inequivalent arg '{argument}'")), "{argument}: {error}");
    }
    Ok(())
}
