//! Tests of a single extractor, on a message that no broker delivered.

use std::sync::Arc;

use hopmq::Message;
use hopmq_broker::{Broker, Clock};

use super::settings_of;
use super::world::{Place, World};
use crate::alarms::Alarms;
use crate::context::Context;
use crate::extract::FromDelivery;
use crate::flow::Verdict;
use crate::incoming::Incoming;
use crate::wall::WallClock;

/// Reads an argument of a handler from a message.
///
/// ```
/// use hopmq::{Message, Properties};
/// use hopmq_app::test::extract;
/// use hopmq_app::{Attempt, Text};
///
/// let properties = Properties::new().with_header("x-hopmq-attempt", 3);
/// let message = Message::new("shop", "order.new", &properties, "a pizza")?;
/// assert_eq!(extract::<Text, _>(&message, &()), Ok(Text("a pizza".to_owned())));
/// assert_eq!(extract::<Attempt, _>(&message, &()), Ok(Attempt(3)));
/// # Ok::<_, hopmq::Error>(())
/// ```
///
/// # Errors
/// What must happen with the message if the argument can't be read. A `Delivery` can't be: there is none.
pub fn extract<E: FromDelivery<S>, S>(message: &Message, state: &S) -> Result<E, Verdict> {
    let broker = Broker::builder().clock(&Clock::manual()).by_hand();
    let world = World::new(Place::Embedded(broker));
    let opened = world.connect(&settings_of("extract", 0)).and_then(|(connection, _)| {
        let alarms = Alarms::new(hopmq::Timer::clock(&world.timer()), WallClock::default());
        world.wait_for(Context::open(&connection, &alarms, Arc::new([]), None))
    });
    let context = opened.unwrap_or_else(|error| panic!("can't connect to the embedded broker: {error}"));
    let read = E::from_delivery(&mut Incoming::of_message(message, &context), state);
    world.clear();
    read
}
