//! Publishing: bodies, properties, headers and returned messages.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Publishes a body, and returns the delivered one.
#[either]
async fn round_trip(channel: &Channel, queue: &Queue, body: &[u8]) -> Outcome<Vec<u8>> {
    channel.publish("", queue.name(), body).confirm().await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    let received = delivery.body().to_vec();
    delivery.ack()?;
    Ok(received)
}

#[scenario]
async fn a_message_that_is_sent_arrives(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut consumer = queue.consume().start().await?;
    channel.publish("", queue.name(), "hello").send().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert_eq!((body(&delivery), delivery.exchange(), delivery.routing_key()), ("hello", "", queue.name()));
    assert!(delivery.properties().is_empty());
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn a_body_may_have_any_byte_type(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let slice: &[u8] = b"slice";
    queue.publish(slice).send().await?;
    queue.publish(b"array").send().await?;
    queue.publish("str").send().await?;
    queue.publish(String::from("String")).send().await?;
    queue.publish(b"Vec".to_vec()).send().await?;
    queue.publish(bytes::Bytes::from_static(b"Bytes")).confirm().await?;
    for expected in ["slice", "array", "str", "String", "Vec", "Bytes"] {
        assert_eq!(body(&queue.get().await?.expect("all messages were sent")), expected);
    }
    Ok(())
}

#[scenario]
async fn bodies_of_every_size_around_a_frame_arrive_complete(t: Test) -> Outcome {
    // The smallest frame that RabbitMQ 4.3 takes.
    let connection = t.open(&t.builder().frame_max(8192)).await?;
    assert_eq!(connection.frame_max(), 8192);
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let room = 8192 - 8;
    for size in [0, 1, room - 1, room, room + 1, 2 * room, 2 * room + 1, 100_000] {
        let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        assert!(round_trip(&channel, &queue, &bytes).await? == bytes, "{size} bytes");
    }
    Ok(())
}

#[scenario]
async fn a_body_of_a_mebibyte_arrives_complete(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let room = channel.connection().frame_max() as usize - 8;
    for size in [room - 1, room, room + 1, 1024 * 1024] {
        let bytes: Vec<u8> = (0..size).map(|index| (index % 253) as u8).collect();
        assert!(round_trip(&channel, &queue, &bytes).await? == bytes, "{size} bytes");
    }
    Ok(())
}

#[scenario]
async fn a_body_of_16_mebibytes_reaches_a_consumer_complete(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let bytes = bytes::Bytes::from(vec![7; 16 * 1024 * 1024]);
    let mut consumer = queue.consume().start().await?;
    channel.publish("", queue.name(), bytes.clone()).confirm().await?;
    let delivery = consumer.next().await.expect("the consumer is active")?;
    assert!(*delivery.body() == bytes);
    delivery.ack()?;
    Ok(())
}

#[scenario]
async fn all_fourteen_properties_survive_a_round_trip(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let headers = FieldTable::new().with("tenant", "acme");
    let all = Properties::new()
        .with_content_type("text/plain")
        .with_content_encoding("gzip")
        .with_headers(&headers)
        .with_persistent()
        .with_priority(7)
        .with_correlation_id("correlation")
        .with_reply_to("replies")
        .with_expiration("60000")
        .with_message_id("message")
        .with_timestamp(1_234_567_890)
        .with_kind("order.created")
        .with_user_id("guest")
        .with_app_id("shop")
        .with_cluster_id("cluster");
    queue.publish("all").properties(&all).confirm().await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    let got = delivery.properties();
    assert_eq!((got.content_type(), got.content_encoding()), (Some("text/plain"), Some("gzip")));
    assert_eq!(delivery.header("tenant").and_then(|value| value.as_str()), Some("acme"));
    assert_eq!(delivery.header("missing"), None);
    assert_eq!((got.delivery_mode(), got.priority(), got.timestamp()), (Some(2), Some(7), Some(1_234_567_890)));
    assert_eq!((got.correlation_id(), got.reply_to()), (Some("correlation"), Some("replies")));
    assert_eq!((got.expiration(), got.message_id()), (Some("60000"), Some("message")));
    assert_eq!((got.kind(), got.user_id()), (Some("order.created"), Some("guest")));
    assert_eq!((got.app_id(), got.cluster_id()), (Some("shop"), Some("cluster")));
    Ok(())
}

#[scenario]
async fn properties_that_are_set_one_by_one_arrive(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let publish = queue.publish("{}").persistent().content_type("application/json").content_encoding("identity");
    let publish = publish.header("attempt", 1).header("trace", "abc").priority(3).correlation_id("c").reply_to("r");
    let publish = publish.expiration(Duration::from_secs(60)).message_id("m").timestamp(9).kind("k").app_id("a");
    publish.user_id("guest").confirm().await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    let got = delivery.properties();
    let headers = delivery.headers()?;
    assert!(got.is_persistent());
    assert_eq!((got.content_type(), got.content_encoding()), (Some("application/json"), Some("identity")));
    assert_eq!(headers.iter().collect::<Vec<_>>(), [("attempt", 1.into()), ("trace", "abc".into())]);
    assert_eq!((got.priority(), got.correlation_id(), got.reply_to()), (Some(3), Some("c"), Some("r")));
    assert_eq!((got.expiration(), got.message_id(), got.timestamp()), (Some("60000"), Some("m"), Some(9)));
    assert_eq!((got.kind(), got.app_id(), got.user_id()), (Some("k"), Some("a"), Some("guest")));
    Ok(())
}

#[scenario]
async fn headers_of_every_type_keep_value_and_order(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let inner = FieldTable::new().with("z", 1).with("a", "two");
    let mut array = FieldArray::new();
    array.push(1).push("two").push(&inner).push(());
    let headers = FieldTable::new()
        .with("void", ())
        .with("bool", true)
        .with("i8", Value::I8(-8))
        .with("u8", Value::U8(200))
        .with("i16", Value::I16(-16_000))
        .with("u16", Value::U16(60_000))
        .with("i32", Value::I32(i32::MIN))
        .with("u32", Value::U32(u32::MAX))
        .with("i64", Value::I64(i64::MIN))
        .with("f32", Value::F32(1.5))
        .with("f64", Value::F64(-2.25))
        .with("decimal", Value::Decimal { scale: 2, value: 314 })
        .with("string", "größe 🐇")
        .with("bytes", Value::Bytes(&[0, 255]))
        .with("timestamp", Value::Timestamp(1_700_000_000))
        .with("array", &array)
        .with("table", &inner);
    queue.publish("").headers(&headers).confirm().await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    let got = delivery.headers()?;
    let mut sent: Vec<_> = headers.iter().collect();
    if release() >= Release::V4_0 {
        // RabbitMQ sorts them by name since then.
        sent.sort_by_key(|(name, _)| *name);
    }
    assert_eq!(got.iter().collect::<Vec<_>>(), sent);
    Ok(())
}

#[scenario]
async fn a_message_that_cannot_be_encoded_is_refused_and_the_channel_stays_open(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let long = "x".repeat(256);
    for publish in [
        channel.publish("", &long, "key"),
        channel.publish(&long, "", "exchange"),
        queue.publish("property").correlation_id(&long),
        queue.publish("header").header(&long, 1),
        queue.publish("more than a frame of headers").header("large", &"x".repeat(200_000)),
    ] {
        let error = refused(publish.confirm().await)?;
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    queue.publish("fine").confirm().await?;
    t.expect_ready(&channel, queue.name(), 1).await?;
    Ok(())
}

#[scenario]
async fn the_confirm_of_an_unroutable_mandatory_message_fails_with_the_message(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let publish = channel.publish("amq.direct", "nowhere", "unroutable").message_id("7").mandatory();
    let error = refused(publish.confirm().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Returned, Some(312)), "{error}");
    assert!(error.to_string().ends_with("312 NO_ROUTE (no binding matches it)"), "{error}");
    let returned = error.returned().expect("the message is in the error");
    assert_eq!((returned.code(), returned.reason()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange(), returned.routing_key()), ("amq.direct", "nowhere"));
    assert_eq!((body(returned), returned.properties().message_id()), ("unroutable", Some("7")));
    channel.publish("amq.direct", "nowhere", "dropped").confirm().await?;
    Ok(())
}

#[scenario]
async fn an_unconfirmed_mandatory_message_is_returned_by_returns(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let mut returns = channel.returns();
    for body in ["one", "two"] {
        channel.publish("amq.direct", "nowhere", body).mandatory().send().await?;
    }
    for expected in ["one", "two"] {
        let returned = returns.next().await.expect("the channel is open");
        assert_eq!((returned.code(), body(&returned)), (312, expected));
    }
    channel.close().await?;
    assert!(returns.next().await.is_none(), "returns end with the channel");
    Ok(())
}

#[scenario]
async fn each_returned_message_is_reported_to_its_publish(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut confirms = Vec::new();
    for index in 0..200 {
        let key = if index % 3 == 0 { "nowhere" } else { queue.name() };
        let publish = channel.publish("", key, index.to_string());
        let publish = if index % 6 == 5 { publish } else { publish.mandatory() };
        confirms.push(publish.confirm_later().await?);
    }
    for (index, confirm) in confirms.into_iter().enumerate() {
        let outcome = confirm.wait().await;
        match index % 3 {
            0 => {
                let error = refused(outcome)?;
                assert_eq!(body(error.returned().expect("the message is returned")), index.to_string());
            }
            _ => outcome?,
        }
    }
    t.expect_ready(&channel, queue.name(), 133).await?;
    Ok(())
}

#[scenario]
async fn publishing_waits_while_the_buffer_is_full_and_loses_no_message(t: Test) -> Outcome {
    // Without heartbeats, only the room that the driver makes can wake the waiting publisher.
    let connection = t.open(&t.builder().high_water_mark(1).heartbeat(Duration::ZERO)).await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let mut confirms = Vec::new();
    for index in 0..300_usize {
        confirms.push(queue.publish(vec![index as u8; index * 100]).confirm_later().await?);
    }
    for confirm in confirms {
        confirm.wait().await?;
    }
    for index in 0..300_usize {
        let delivery = queue.get().await?.expect("all messages are confirmed");
        assert!(delivery.body()[..] == vec![index as u8; index * 100]);
        delivery.ack()?;
    }
    Ok(())
}

#[scenario]
async fn publishing_with_the_user_id_of_another_user_fails_with_406(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let error = refused(channel.publish("", "nowhere", "").user_id("another").confirm().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(406)), "{error}");
    Ok(())
}
