use std::fmt::{Debug, Write};
use std::time::Duration;

use hopmq::Properties;
use hopmq_app::{App, Context, Queue, Slow, State};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};

use crate::support::{Notes, run, until};

/// Notes down the events of a module with their fields.
struct Capture(Notes);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if event.metadata().target().starts_with("hopmq_app::layer") {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.0.add(fields.0.trim());
        }
    }
}

#[test]
fn a_slow_handler_is_named_in_the_log_again_each_time_that_its_time_has_doubled() {
    let (notes, log) = (Notes::default(), Notes::default());
    let handler = async |State(notes): State<Notes>, context: Context| {
        notes.add("called");
        context.sleep(Duration::from_secs(100)).await;
    };
    let app = App::new(notes.clone()).layer(Slow::after(Duration::from_secs(10))).route(Queue::new("orders"), handler);
    let subscriber = tracing_subscriber::registry().with(Capture(log.clone()));
    tracing::subscriber::with_default(subscriber, || {
        run(app, async |world| {
            world.publish_with("orders", &Properties::new().with_message_id("m-1"), "one").await;
            until(|| notes.len() == 1).await;
            for seconds in [10, 10, 20, 20] {
                world.timer.advance(Duration::from_secs(seconds));
                for _ in 0..3 {
                    futures_lite::future::yield_now().await;
                }
            }
            until(|| log.len() == 3).await;
            world.timer.advance(Duration::from_secs(40));
            world.drained("orders").await;
        });
    });
    let line = |seconds| {
        format!(
            "message=a handler is still running queue=\"orders\" routing_key=\"orders\" message_id=\"m-1\" attempt=1 \
             running={seconds}s"
        )
    };
    assert_eq!(log.all(), [line(10), line(20), line(40)]);
}
