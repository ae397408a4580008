//! A page in Rust whose handlers take orders: one order fails twice and succeeds, two end in the dead letters. Except
//! for the timer, the app is as it would be on a server.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hopmq_app::{
    App, Attempt, Backoff, Control, DeadLetter, Existing, Header, HeaderName, Json, Queue, Reject, Retry, State, Text,
    Verdict,
};
use hopmq_wasm::BrowserTimer;
use wasm_bindgen::prelude::*;

use crate::show;

/// What the handlers share. It need not be `Send`: everything runs on the page's one thread.
#[derive(Clone)]
struct Page(Rc<Shared>);

struct Shared {
    /// The messages without an end so far.
    open: Cell<u32>,
    control: RefCell<Option<Control>>,
}

impl Page {
    /// Counts a message that has ended, and stops the app after the last.
    fn ended(&self) {
        self.0.open.set(self.0.open.get() - 1);
        if let (0, Some(control)) = (self.0.open.get(), &*self.0.control.borrow()) {
            control.stop();
        }
    }
}

/// The header in which the app says why a message failed.
struct Reason;

impl HeaderName for Reason {
    const NAME: &'static str = hopmq_app::flow::headers::ERROR;
    type Value = String;
}

async fn on_order(Json(order): Json<u32>, Attempt(attempt): Attempt, State(page): State<Page>) -> Verdict {
    show(&format!("order {order}, attempt {attempt}"));
    match (order, attempt) {
        (2, 1..3) => Retry::because("the kitchen is busy").into(),
        (3, _) => Reject::because("there is no pizza 3").into(),
        _ => {
            page.ended();
            Verdict::Ack
        }
    }
}

async fn on_dead_letter(Text(body): Text, reason: Header<Reason>, State(page): State<Page>) {
    show(&format!("dead letter {body}: {}", reason.0));
    page.ended();
}

/// Runs the example against the gateway at `url`.
///
/// # Errors
/// The errors of `hopmq` and `hopmq-app`, as text.
#[wasm_bindgen]
pub async fn handle(url: String) -> Result<(), JsError> {
    let settings = hopmq::Connection::builder().connection_name("handlers in a page");
    let connection = hopmq_wasm::open(&url, &settings).await?;
    let channel = connection.channel().await?;

    // Each page has queues of its own, and deletes them.
    let name = format!("hopmq-page-{}", js_sys::Math::random());
    // The first wait is in the page, the second in a queue of the broker.
    let backoff = Backoff::list([Duration::from_millis(50), Duration::from_secs(1)]);
    let orders = Queue::new(&name).retry(backoff).concurrency(2);
    let dead = Queue::new(format!("{name}.dlq")).existing(Existing::Adopt).dead_letter(DeadLetter::Reject);
    let queues: Vec<_> = orders.all().iter().map(|queue| queue.name().to_owned()).collect();

    let page = Page(Rc::new(Shared { open: Cell::new(4), control: RefCell::default() }));
    let app = App::local(page.clone()).route(orders, on_order).route(dead, on_dead_letter);
    page.0.control.replace(Some(app.control()));
    channel.queue(&name).durable().declare().await?;
    for order in ["1", "2", "3", "no number"] {
        channel.publish("", &name, order).mandatory().confirm().await?;
    }
    app.run_with(&connection, BrowserTimer::new()).await?;
    for queue in queues {
        channel.queue_delete(&queue).await?;
    }
    connection.close().await?;
    show("closed");
    Ok(())
}
