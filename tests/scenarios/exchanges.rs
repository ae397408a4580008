//! Exchanges and bindings: routing.

use super::prelude::*;

/// Publishes one message for each key, and returns those that reached the queue.
#[either]
async fn routed(channel: &Channel, exchange: &str, queue: &Queue, keys: &[&str]) -> Outcome<Vec<String>> {
    for key in keys {
        channel.publish(exchange, key, *key).confirm().await?;
    }
    drained(queue).await
}

/// Removes all messages of a queue, and returns their bodies.
#[either]
async fn drained(queue: &Queue) -> Outcome<Vec<String>> {
    let mut bodies = Vec::new();
    while let Some(delivery) = queue.get().await? {
        bodies.push(body(&delivery).to_owned());
        delivery.ack()?;
    }
    Ok(bodies)
}

#[scenario]
async fn the_default_exchange_routes_by_the_name_of_the_queue(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let one = t.queue_with(&channel, &[]).await?;
    let two = t.queue_with(&channel, &[]).await?;
    channel.publish("", one.name(), "one").confirm().await?;
    channel.publish("", two.name(), "two").confirm().await?;
    assert_eq!(drained(&one).await?, ["one"]);
    assert_eq!(drained(&two).await?, ["two"]);
    Ok(())
}

#[scenario]
async fn a_direct_exchange_routes_by_the_exact_key(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("direct");
    let exchange = channel.exchange(&name).direct().declare().await?;
    queue.bind(exchange.name(), "info").await?;
    queue.bind(exchange.name(), "error").await?;
    assert_eq!(routed(&channel, &name, &queue, &["info", "debug", "error", "info.x"]).await?, ["info", "error"]);
    Ok(())
}

#[scenario]
async fn a_fanout_exchange_routes_to_all_its_queues(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("fanout");
    channel.exchange(&name).fanout().declare().await?;
    let one = t.queue_with(&channel, &[]).await?;
    let two = t.queue_with(&channel, &[]).await?;
    one.bind(&name, "").await?;
    two.bind(&name, "ignored").await?;
    assert_eq!(routed(&channel, &name, &one, &["a", "b"]).await?, ["a", "b"]);
    assert_eq!(drained(&two).await?, ["a", "b"]);
    Ok(())
}

#[scenario]
async fn a_star_in_a_topic_matches_one_word(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("topic");
    channel.exchange(&name).topic().declare().await?;
    queue.bind(&name, "*.orange.*").await?;
    let keys = ["quick.orange.rabbit", "orange", "quick.orange", "a.b.orange.c", "lazy.orange.elephant"];
    assert_eq!(routed(&channel, &name, &queue, &keys).await?, ["quick.orange.rabbit", "lazy.orange.elephant"]);
    Ok(())
}

#[scenario]
async fn a_hash_in_a_topic_matches_any_number_of_words(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("topic");
    channel.exchange(&name).topic().declare().await?;
    queue.bind(&name, "lazy.#").await?;
    let keys = ["lazy", "lazy.pink.rabbit", "lazier", "quick.lazy"];
    assert_eq!(routed(&channel, &name, &queue, &keys).await?, ["lazy", "lazy.pink.rabbit"]);
    Ok(())
}

#[scenario]
async fn a_headers_exchange_routes_by_all_or_any_of_the_headers(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("headers");
    channel.exchange(&name).headers().declare().await?;
    let all = t.queue_with(&channel, &[]).await?;
    let any = t.queue_with(&channel, &[]).await?;
    let table = FieldTable::new().with("format", "pdf").with("pages", 2);
    channel.queue_bind(all.name(), &name, "", table.clone().with("x-match", "all")).await?;
    channel.queue_bind(any.name(), &name, "", table.with("x-match", "any")).await?;
    channel.publish(&name, "", "both").header("format", "pdf").header("pages", 2).confirm().await?;
    channel.publish(&name, "", "one").header("format", "pdf").header("pages", 3).confirm().await?;
    channel.publish(&name, "", "none").header("format", "zip").confirm().await?;
    channel.publish(&name, "", "no headers").confirm().await?;
    assert_eq!(drained(&all).await?, ["both"]);
    assert_eq!(drained(&any).await?, ["both", "one"]);
    Ok(())
}

#[scenario]
async fn an_alternate_exchange_receives_unroutable_messages(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let main = t.name("main");
    let rest = t.name("rest");
    channel.exchange(&rest).fanout().declare().await?;
    channel.exchange(&main).direct().alternate_exchange(&rest).declare().await?;
    let taken = t.queue_with(&channel, &[]).await?;
    let left = t.queue_with(&channel, &[]).await?;
    taken.bind(&main, "known").await?;
    left.bind(&rest, "").await?;
    channel.publish(&main, "unknown", "lost").mandatory().confirm().await?;
    channel.publish(&main, "known", "found").mandatory().confirm().await?;
    assert_eq!(drained(&taken).await?, ["found"]);
    assert_eq!(drained(&left).await?, ["lost"]);
    Ok(())
}

#[scenario]
async fn publishing_to_an_internal_exchange_is_refused(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("internal");
    channel.exchange(&name).fanout().internal().declare().await?;
    let error = refused(channel.publish(&name, "", "no").confirm().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
    Ok(())
}

#[scenario]
async fn an_exchange_receives_messages_of_another_until_it_is_unbound(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let source = t.name("source");
    let destination = t.name("destination");
    channel.exchange(&source).topic().declare().await?;
    let exchange = channel.exchange(&destination).fanout().internal().declare().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    queue.bind(&destination, "").await?;
    exchange.bind_to(&source, "eu.#").await?;
    assert_eq!(routed(&channel, &source, &queue, &["eu.fr", "us.ny"]).await?, ["eu.fr"]);
    channel.exchange_unbind(&destination, &source, "eu.#", ()).await?;
    assert!(routed(&channel, &source, &queue, &["eu.de"]).await?.is_empty());
    Ok(())
}

#[scenario]
async fn an_unbound_queue_receives_no_more_messages(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("direct");
    channel.exchange(&name).declare().await?;
    queue.bind(&name, "key").await?;
    assert_eq!(routed(&channel, &name, &queue, &["key"]).await?, ["key"]);
    queue.unbind(&name, "key").await?;
    assert!(routed(&channel, &name, &queue, &["key"]).await?.is_empty());
    queue.unbind(&name, "key").await?;
    Ok(())
}

#[scenario]
async fn a_binding_with_arguments_is_removed_by_the_same_arguments(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("headers");
    channel.exchange(&name).headers().declare().await?;
    let red = [("colour", "red")];
    channel.queue_bind(queue.name(), &name, "", red).await?;
    channel.queue_bind(queue.name(), &name, "", [("colour", "blue")]).await?;
    channel.queue_unbind(queue.name(), &name, "", red).await?;
    channel.publish(&name, "", "red").header("colour", "red").confirm().await?;
    channel.publish(&name, "", "blue").header("colour", "blue").confirm().await?;
    assert_eq!(drained(&queue).await?, ["blue"]);
    Ok(())
}

#[scenario]
async fn binding_to_a_missing_exchange_fails_with_404(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let error = refused(queue.bind(&t.name("missing"), "key").await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    Ok(())
}

#[scenario]
async fn an_exchange_in_use_is_not_deleted_if_unused(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let other = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("fanout");
    let exchange = channel.exchange(&name).fanout().declare().await?;
    queue.bind(&name, "").await?;
    let error = refused(other.exchange_delete(&name).if_unused().delete().await)?;
    assert_eq!(error.code(), Some(406), "{error}");
    queue.unbind(&name, "").await?;
    exchange.delete().if_unused().delete().await?;
    assert_eq!(refused(channel.exchange(&name).declare_passive().await)?.code(), Some(404));
    Ok(())
}

#[scenario]
async fn an_auto_delete_exchange_is_deleted_with_its_last_binding(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let name = t.name("fanout");
    channel.exchange(&name).fanout().auto_delete().declare().await?;
    queue.bind(&name, "").await?;
    channel.exchange(&name).declare_passive().await?;
    queue.unbind(&name, "").await?;
    assert_eq!(refused(channel.exchange(&name).declare_passive().await)?.code(), Some(404));
    Ok(())
}

#[scenario]
async fn an_exchange_can_be_declared_again_only_with_the_same_settings(t: Test) -> Outcome {
    let channel = t.channel().await?;
    let name = t.name("exchange");
    channel.exchange(&name).topic().durable().declare().await?;
    channel.exchange(&name).topic().durable().declare().await?;
    let error = refused(channel.exchange(&name).fanout().durable().declare().await)?;
    assert_eq!(error.code(), Some(406), "{error}");
    Ok(())
}

#[scenario]
async fn an_exchange_of_an_unknown_type_is_refused(t: Test) -> Outcome {
    let connection = t.connect().await?;
    let channel = connection.channel().await?;
    let error = refused(channel.exchange(&t.name("exchange")).kind("x-unheard-of").declare().await)?;
    assert!(error.is_closed() && matches!(error.code(), Some(406 | 503)), "{error}");
    Ok(())
}
