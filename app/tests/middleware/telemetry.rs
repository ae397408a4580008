use std::time::Duration;

use futures_lite::future;
use hopmq_app::{
    App, Attempt, Backoff, Context, Metrics, Out, Probes, Queue, QueueState, Reject, Retry, Text, Verdict,
};

use crate::support::{run, until};

async fn work(Text(body): Text, Attempt(attempt): Attempt, context: Context, out: Out<u8>) -> Verdict {
    context.sleep(Duration::from_millis(200)).await;
    match (&*body, attempt) {
        ("again", 1) => Retry::because("later").into(),
        ("bad", _) => Reject::because("bad").into(),
        ("send", _) => {
            let sent = out.publish_to("", "nowhere", &1).await;
            assert!(sent.is_err());
            Verdict::Ack
        }
        _ => Verdict::Ack,
    }
}

fn value(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[test]
fn metrics_count_messages_by_queue_and_verdict_and_measure_handlers() {
    let metrics = Metrics::new();
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::from_millis(500)).attempts(3));
    let app = App::new(()).observe(metrics.clone()).route(queue, work);
    let gauge = |name: &str| {
        let line = format!("{name}{{messaging_system=\"rabbitmq\",messaging_destination_name=\"orders\"}}");
        value(&metrics.prometheus(), &line)
    };
    run(app, async |world| {
        world.publish("orders", ["ok", "again", "bad", "send"]).await;
        until(|| gauge("hopmq_app_messages_in_work") == Some(1.0)).await;
        until(|| {
            world.timer.advance(Duration::from_millis(100));
            gauge("hopmq_app_messages_waiting") == Some(1.0)
        })
        .await;
        assert_eq!(gauge("hopmq_app_messages_in_work"), Some(0.0));
        until(|| {
            world.timer.advance(Duration::from_millis(100));
            gauge("messaging_client_consumed_messages_total") == Some(4.0)
                && gauge("hopmq_app_messages_in_work") == Some(0.0)
        })
        .await;
        world.drained("orders").await;
    });
    let text = metrics.prometheus();
    let of = |rest: &str| {
        let labels = "messaging_system=\"rabbitmq\",messaging_destination_name=\"orders\",";
        value(&text, &format!("messaging_process_duration_seconds_{}", rest.replace("ORDERS", labels)))
    };
    let process = "ORDERSmessaging_operation_name=\"process\",hopmq_verdict=";
    assert_eq!(of(&format!("count{{{process}\"ack\"}}")), Some(3.0), "{text}");
    assert_eq!(of(&format!("count{{{process}\"retry\",error_type=\"retry\"}}")), Some(1.0), "{text}");
    assert_eq!(of(&format!("count{{{process}\"reject\",error_type=\"reject\"}}")), Some(1.0), "{text}");
    assert_eq!(of(&format!("bucket{{{process}\"ack\",le=\"+Inf\"}}")), Some(3.0), "{text}");
    // The turns of the clock that a handler sees beyond its 200 ms are few, because it waits for nothing else.
    let reject = format!("{process}\"reject\",error_type=\"reject\",le=");
    assert_eq!(of(&format!("bucket{{{reject}\"0.1\"}}")), Some(0.0), "{text}");
    assert_eq!(of(&format!("bucket{{{reject}\"0.5\"}}")), Some(1.0), "{text}");
    let sent = "messaging_client_sent_messages_total{messaging_system=\"rabbitmq\",\
                messaging_destination_name=\"amq.default\",messaging_operation_name=\"publish\",error_type=\"312\"}";
    assert_eq!(value(&text, sent), Some(1.0), "{text}");
}

#[test]
fn a_message_whose_app_is_dropped_is_not_in_work_any_more() {
    let metrics = Metrics::new();
    let app = App::new(())
        .observe(metrics.clone())
        .drain_timeout(Duration::ZERO)
        .route(Queue::new("orders"), async || future::pending::<()>().await);
    let in_work = "hopmq_app_messages_in_work{messaging_system=\"rabbitmq\",messaging_destination_name=\"orders\"}";
    run(app, async |world| {
        world.publish("orders", ["one"]).await;
        until(|| value(&metrics.prometheus(), in_work) == Some(1.0)).await;
    });
    assert_eq!(value(&metrics.prometheus(), in_work), Some(0.0));
}

#[test]
fn health_is_false_without_a_connection_or_a_consumer_and_true_while_a_queue_is_paused() {
    let app = App::new(()).route(Queue::new("orders"), async || {});
    let control = app.control();
    let probes = Probes::new(app.control(), Metrics::new());
    let healthz = || probes.answer("/healthz").map(|(status, _, body)| (status, body));
    let answer = |status, body: &str| Some((status, body.to_owned()));
    assert_eq!(healthz(), answer(503, "not connected\norders: no consumer\n"));
    run(app, async |world| {
        until(|| control.health().is_healthy()).await;
        assert_eq!(healthz(), answer(200, "connected\norders: consuming\n"));
        control.pause("orders");
        assert_eq!(healthz(), answer(200, "connected\norders: paused\n"));
        control.resume("orders");
        // The broker cancels the consumer, and its queue is declared again after a wait on the app's timer.
        world.channel.queue_delete("orders").await.unwrap();
        until(|| control.health().queues[0].state == QueueState::Absent).await;
        assert_eq!(healthz(), answer(503, "connected\norders: no consumer\n"));
        until(|| {
            world.timer.advance(Duration::from_secs(1));
            control.health().is_healthy()
        })
        .await;
        world.broker.faults().every_connection().cut();
        until(|| !control.health().connected).await;
        until(|| control.health().connected).await;
    });
    assert_eq!(healthz(), answer(503, "not connected\norders: stopped\n"));
}
